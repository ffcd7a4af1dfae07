locals {
  scaling_targets = {
    cpu      = { metric = "ECSServiceAverageCPUUtilization", value = 70 }
    memory   = { metric = "ECSServiceAverageMemoryUtilization", value = 80 }
    requests = { metric = "ALBRequestCountPerTarget", value = var.requests_per_task_per_minute }
  }
}

resource "aws_appautoscaling_target" "broker" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.main.name}/${aws_ecs_service.broker.name}"
  min_capacity       = var.task_count.min
  max_capacity       = var.task_count.max
}

resource "aws_appautoscaling_policy" "broker" {
  for_each = local.scaling_targets

  name               = "${var.name}-${each.key}"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.broker.service_namespace
  scalable_dimension = aws_appautoscaling_target.broker.scalable_dimension
  resource_id        = aws_appautoscaling_target.broker.resource_id

  target_tracking_scaling_policy_configuration {
    target_value = each.value.value
    # Scale in slowly: the next class may start within the hour.
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = each.value.metric
      resource_label = (
        each.value.metric == "ALBRequestCountPerTarget"
        ? "${aws_lb.main.arn_suffix}/${aws_lb_target_group.broker.arn_suffix}"
        : null
      )
    }
  }
}
