output "url" {
  description = "Where the broker is. The load balancer's own name fits no certificate, so it is of use for a DNS record elsewhere only."
  value       = "https://${coalesce(var.domain_name, aws_lb.main.dns_name)}"
}

output "load_balancer_dns_name" {
  description = "What a DNS record outside of Route 53 has to point at."
  value       = aws_lb.main.dns_name
}

output "repository_url" {
  description = "Where to push the image."
  value       = aws_ecr_repository.broker.repository_url
}

output "secret_arns" {
  description = "The secrets that need values, by the broker's environment variable."
  value       = { for variable, secret in aws_secretsmanager_secret.broker : variable => secret.arn }
}

output "table_name" {
  description = "The table."
  value       = var.table_name
}

output "cluster_name" {
  description = "The ECS cluster."
  value       = aws_ecs_cluster.main.name
}

output "jobs_task_definition" {
  description = "For a single run of a job by hand: aws ecs run-task."
  value       = aws_ecs_task_definition.jobs.arn
}

output "private_subnet_ids" {
  description = "Where tasks run."
  value       = aws_subnet.private[*].id
}

output "tasks_security_group_id" {
  description = "The security group of tasks."
  value       = aws_security_group.tasks.id
}

output "nat_addresses" {
  description = "From where CSP sees the broker."
  value       = aws_eip.nat[*].public_ip
}

output "log_group_names" {
  description = "The log groups."
  value       = { for key, group in aws_cloudwatch_log_group.main : key => group.name }
}

output "alarm_topic_arn" {
  description = "The SNS topic of all alarms."
  value       = aws_sns_topic.alarms.arn
}

output "dashboard_name" {
  description = "The CloudWatch dashboard."
  value       = aws_cloudwatch_dashboard.main.dashboard_name
}
