# The secrets without their values: what Terraform sets lies in its state. README.md says how to put and rotate values.

locals {
  secrets = merge(
    {
      BROKER_API_TOKEN_SECRET_ID   = { name = "broker-api-token", description = "Tokens of tracks, separated by commas" }
      BROKER_ADMIN_TOKEN_SECRET_ID = { name = "broker-admin-token", description = "Tokens of admins, separated by commas" }
      CSP_API_TOKEN_SECRET_ID      = { name = "csp-api-token", description = "The CSP's API token" }
    },
    var.niosxaas_enabled ? {
      NIOSXAAS_SECRET_ID = { name = "niosxaas", description = "The user who may delete NIOSXaaS services" }
    } : {},
  )
}

# By the environment variable that tells the broker the secret's ARN.
resource "aws_secretsmanager_secret" "broker" {
  for_each = local.secrets

  #checkov:skip=CKV_AWS_149:The key is var.kms_key_arn; without it the account's key for Secrets Manager encrypts.
  #checkov:skip=CKV2_AWS_57:The tokens are also in Instruqt's and in CSP's hands, so no function here could rotate them alone.
  name                    = "${var.name}/${each.value.name}"
  description             = each.value.description
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.secrets_recovery_window_days
}
