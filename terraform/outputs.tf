output "url" {
  description = "The broker's base URL. Without domain_name it has the load balancer's own name, which matches no certificate; point a DNS record at it."
  value       = "https://${coalesce(var.domain_name, aws_lb.main.dns_name)}"
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
  description = "ARNs of the secrets that need values, by the environment variable that names each to the broker."
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

output "jobs_task_definition" {
  description = "The task definition for running a job manually with aws ecs run-task."
  value       = aws_ecs_task_definition.jobs.arn
}

output "private_subnet_ids" {
  description = "The subnets in which tasks run."
  value       = aws_subnet.private[*].id
}

output "tasks_security_group_id" {
  description = "The security group of the tasks."
  value       = aws_security_group.tasks.id
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
