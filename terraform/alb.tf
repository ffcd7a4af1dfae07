locals {
  # The broker matches paths literally, so another encoding of one of these paths is not routed and cannot bypass the
  # rule.
  admin_paths = ["/metrics", "/v1/admin*", "/dashboard*"]
  # A listener rule takes at most five condition values: three paths leave room for two addresses.
  admin_cidr_pairs = chunklist(var.admin_cidrs, 2)
}

resource "aws_lb" "main" {
  #checkov:skip=CKV2_AWS_76:It requires the anonymous IP list as well, which blocks hosting providers, and Instruqt's labs run at one.
  name               = var.name
  load_balancer_type = "application"
  security_groups    = [aws_security_group.alb.id]
  subnets            = aws_subnet.public[*].id

  idle_timeout               = local.alb_idle_sec
  drop_invalid_header_fields = true
  # The broker counts hops from the right end of X-Forwarded-For (TRUSTED_PROXY_HOPS), so entries sent by a client are
  # ignored.
  xff_header_processing_mode = "append"
  enable_deletion_protection = var.alb_deletion_protection

  access_logs {
    bucket  = aws_s3_bucket.alb_logs.id
    enabled = true
  }

  # The load balancer tests its write access as soon as access logs are enabled.
  depends_on = [aws_s3_bucket_policy.alb_logs]
}

resource "aws_lb_target_group" "broker" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; from there to the tasks the traffic stays in private subnets, which security groups restrict to the load balancer.
  # A prefix (at most six characters) instead of a name: a changed port replaces the target group, and the new one is
  # created before the old one is destroyed.
  name_prefix = "broker"
  vpc_id      = aws_vpc.main.id
  target_type = "ip"
  protocol    = "HTTP"
  port        = var.container_port

  # How long a deregistered task may finish its requests. ECS deregisters a task before it sends SIGTERM, after which
  # the broker has another stop_timeout_sec. No request of a lab takes that long; a job that an admin started continues
  # without its client.
  deregistration_delay = local.stop_timeout_sec
  # Distributes the burst of a class by the load of each task.
  load_balancing_algorithm_type = "least_outstanding_requests"

  health_check {
    # Not /readyz: ECS replaces tasks that fail this check, so an outage of DynamoDB would replace every one of them, and
    # requests would get 502 from the load balancer in place of the broker's 503. A broker that cannot use the tables
    # does not start, so a faulty deployment does not pass this check either.
    path                = "/healthz"
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
      # With single sign-on, sign_on.tf has the rules of the other paths.
      values = local.is_sign_on ? ["/metrics"] : local.admin_paths
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
      message_body = jsonencode({ error = { code = "FORBIDDEN", message = "This path is not reachable from your network." } })
      status_code  = "403"
    }
  }

  condition {
    path_pattern {
      values = local.admin_paths
    }
  }
}
