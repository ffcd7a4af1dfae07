locals {
  url = "https://${coalesce(var.domain_name, aws_lb.main.dns_name)}"
}

output "url" {
  description = "The broker's base URL. Without domain_name it has the load balancer's own name, which matches no certificate; point a DNS record at it."
  value       = local.url
}

output "load_balancer_dns_name" {
  description = "The target for a DNS record outside of Route 53."
  value       = aws_lb.main.dns_name
}

output "repository_url" {
  description = "The ECR repository to push the image to."
  value       = aws_ecr_repository.broker.repository_url
}

output "secret_arns" {
  description = "ARNs of the secrets, by the environment variable that names each to the broker. All need values, NIOSXAAS_SECRET_ID only if niosxaas_enabled."
  value       = { for variable, secret in aws_secretsmanager_secret.broker : variable => secret.arn }
}

output "table_name" {
  description = "The DynamoDB table of the pool."
  value       = local.table_names.pool
}

output "companion_table_name" {
  description = "The companion table."
  value       = local.table_names.companion
}

output "cluster_name" {
  description = "The ECS cluster."
  value       = aws_ecs_cluster.main.name
}

output "shell" {
  description = "The variables of the commands in README.md and docs/operations.md: eval \"$(terraform output -raw shell)\"."
  value = join("\n", [
    for name, value in {
      AWS_REGION    = var.region
      NAME          = var.name
      B             = local.url
      LOAD_BALANCER = aws_lb.main.dns_name
      CLUSTER       = aws_ecs_cluster.main.name
      SERVICE       = aws_ecs_service.broker.name
      JOBS_TASK     = aws_ecs_task_definition.jobs.arn
      JOBS_NETWORK  = "awsvpcConfiguration={subnets=[${join(",", aws_subnet.private[*].id)}],securityGroups=[${aws_security_group.tasks.id}]}"
      TABLE         = local.table_names.pool
      COMPANION     = local.table_names.companion
      LOG_GROUP     = aws_cloudwatch_log_group.main["broker"].name
      JOBS_LOG      = aws_cloudwatch_log_group.main["jobs"].name
      REPOSITORY    = aws_ecr_repository.broker.repository_url
      ALB_LOGS      = aws_s3_bucket.alb_logs.id
    } : "export ${name}='${value}'"
  ])
}

output "github_variables" {
  description = "The variables of the workflows on GitHub; docs/github.md has the command that sets them."
  value = {
    for name, value in {
      AWS_REGION         = var.region
      AWS_PLAN_ROLE_ARN  = try(aws_iam_role.github["plan"].arn, null)
      AWS_APPLY_ROLE_ARN = try(aws_iam_role.github["apply"].arn, null)
      AWS_PUSH_ROLE_ARN  = try(aws_iam_role.github["push"].arn, null)
      TF_PLAN_BUCKET     = one(local.github[*].state_bucket)
      ECR_REPOSITORY     = aws_ecr_repository.broker.repository_url
    } : name => value if length(local.github) > 0
  }
}

output "nat_addresses" {
  description = "The public addresses from which the broker calls CSP."
  value       = aws_eip.nat[*].public_ip
}

output "log_group_names" {
  description = "The CloudWatch log groups, by their key in logs.tf."
  value       = { for key, group in aws_cloudwatch_log_group.main : key => group.name }
}

output "alarm_topic_arn" {
  description = "The SNS topic that all alarms notify."
  value       = aws_sns_topic.alarms.arn
}

output "dashboard_name" {
  description = "The CloudWatch dashboard."
  value       = aws_cloudwatch_dashboard.main.dashboard_name
}
