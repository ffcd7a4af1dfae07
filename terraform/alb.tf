locals {
  # The broker matches paths as they are written, so another spelling of one of these leads nowhere.
  admin_paths = ["/metrics", "/v1/admin*", "/dashboard*"]
  # A rule takes five values in all: three paths leave room for two addresses.
  admin_cidr_pairs = chunklist(var.admin_cidrs, 2)
}

resource "aws_lb" "main" {
  #checkov:skip=CKV2_AWS_76:It wants the group of anonymous addresses too, which blocks hosting providers, and Instruqt's labs run at one.
  name               = var.name
  load_balancer_type = "application"
  security_groups    = [aws_security_group.alb.id]
  subnets            = aws_subnet.public[*].id

  idle_timeout               = local.alb_idle_sec
  drop_invalid_header_fields = true
  # The broker counts hops from the right end of X-Forwarded-For (TRUSTED_PROXY_HOPS), so what a client writes there
  # itself is ignored.
  xff_header_processing_mode = "append"
  enable_deletion_protection = var.alb_deletion_protection

  access_logs {
    bucket  = aws_s3_bucket.alb_logs.id
    enabled = true
  }

  # The load balancer tries to write as soon as it is told where.
  depends_on = [aws_s3_bucket_policy.alb_logs]
}

resource "aws_lb_target_group" "broker" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; from there to the tasks the traffic stays in private subnets, which security groups close to all others.
  # A prefix, of six characters at the most: a target group with another port is made before the old one goes.
  name_prefix = "broker"
  vpc_id      = aws_vpc.main.id
  target_type = "ip"
  protocol    = "HTTP"
  port        = var.container_port

  # How long requests that a leaving task already has may go on. ECS takes the task out of here before it tells it to
  # stop, and then the broker has shutdown_sec of its own. No request of a track lasts that long; a job that an admin
  # started goes on without its caller.
  deregistration_delay = local.stop_timeout_sec
  # A burst of a class goes to the task that has the least to do.
  load_balancing_algorithm_type = "least_outstanding_requests"

  health_check {
    path                = "/readyz"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.main.arn
  protocol          = "HTTP"
  port              = 80

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.main.arn
  protocol          = "HTTPS"
  port              = 443
  ssl_policy        = var.tls_policy
  certificate_arn   = local.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.broker.arn
  }
}

resource "aws_lb_listener_rule" "admin" {
  count = length(local.admin_cidr_pairs)

  listener_arn = aws_lb_listener.https.arn
  priority     = 10 + count.index

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.broker.arn
  }

  condition {
    path_pattern {
      values = local.admin_paths
    }
  }
  condition {
    source_ip {
      values = local.admin_cidr_pairs[count.index]
    }
  }
}

resource "aws_lb_listener_rule" "not_admin" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 100

  action {
    type = "fixed-response"

    fixed_response {
      content_type = "application/json"
      message_body = jsonencode({ error = { code = "FORBIDDEN", message = "Not reachable from here." } })
      status_code  = "403"
    }
  }

  condition {
    path_pattern {
      values = local.admin_paths
    }
  }
}
