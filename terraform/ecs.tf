resource "aws_ecs_cluster" "main" {
  #checkov:skip=CKV_AWS_65:Container Insights is var.container_insights, on by default.
  name = var.name

  setting {
    name  = "containerInsights"
    value = var.container_insights
  }
}

# The broker service

# Revisions stay active when a new one replaces them (skip_destroy): a deployment that fails goes back to the revision
# before, and schedules start it until the new brokers serve.

resource "aws_ecs_task_definition" "broker" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task_size.broker_cpu
  memory                   = var.task_size.broker_memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  skip_destroy             = true
  container_definitions    = jsonencode(concat([local.broker_container], local.collector_containers.broker))

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }
}

resource "aws_ecs_service" "broker" {
  name                          = "broker"
  cluster                       = aws_ecs_cluster.main.id
  task_definition               = aws_ecs_task_definition.broker.arn
  launch_type                   = "FARGATE"
  desired_count                 = var.task_count.min
  propagate_tags                = "SERVICE"
  availability_zone_rebalancing = "ENABLED"

  # All old tasks keep serving until the new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  # The apply succeeds once the new tasks serve, and fails if the circuit breaker rolled back to the old ones.
  wait_for_steady_state = true

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  network_configuration {
    subnets         = aws_subnet.private[*].id
    security_groups = [aws_security_group.tasks.id]
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.broker.arn
    container_name   = local.container_name
    container_port   = var.container_port
  }

  lifecycle {
    # Managed by autoscaling.
    ignore_changes = [desired_count]
  }

  depends_on = [
    aws_iam_role_policy.execution,
    aws_iam_role_policy.task,
    # ECS requires that a listener uses the target group.
    aws_lb_listener.https,
    aws_route.nat,
    aws_vpc_endpoint.dynamodb,
  ]
}

# The jobs: a worker service with one task, or tasks that the schedules start

resource "aws_ecs_task_definition" "jobs" {
  family                   = "${var.name}-jobs"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task_size.job_cpu
  memory                   = var.task_size.job_memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  skip_destroy             = true
  container_definitions    = jsonencode(concat([local.job_container], local.collector_containers.jobs))

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }
}

resource "aws_ecs_service" "worker" {
  count = local.is_scheduler ? 0 : 1

  name                  = "worker"
  cluster               = aws_ecs_cluster.main.id
  task_definition       = aws_ecs_task_definition.jobs.arn
  launch_type           = "FARGATE"
  desired_count         = var.schedules_enabled ? 1 : 0
  propagate_tags        = "SERVICE"
  wait_for_steady_state = true

  # A deployment runs two workers for a moment: the job leases in the table let only one of them run a job.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  network_configuration {
    subnets         = aws_subnet.private[*].id
    security_groups = [aws_security_group.tasks.id]
  }

  # The jobs change to a new version once its brokers serve, and not at all if their deployment fails.
  depends_on = [aws_ecs_service.broker]
}
