# The secrets without their values, which would end up in Terraform's state. README.md explains how to set and rotate
# them.

locals {
  secrets = {
    BROKER_API_TOKEN_SECRET_ID   = { name = "broker-api-token", description = "Track tokens, separated by commas" }
    BROKER_ADMIN_TOKEN_SECRET_ID = { name = "broker-admin-token", description = "Admin tokens, separated by commas" }
    CSP_API_TOKEN_SECRET_ID      = { name = "csp-api-token", description = "API token of CSP" }
    # Exists before it is used: tasks do not start with a secret that has no value, so its value has to be set first.
    NIOSXAAS_SECRET_ID = {
      name        = "niosxaas"
      description = "Credentials of the user that ${local.checks_accounts ? "checks accounts, and " : ""}deletes NIOSXaaS services, if niosxaas_enabled"
    }
  }
  # The secrets that the broker reads.
  secrets_in_use = setsubtract(keys(local.secrets), var.niosxaas_enabled || local.checks_accounts ? [] : ["NIOSXAAS_SECRET_ID"])
}

# Keyed by the environment variable that passes the secret's ARN to the broker.
resource "aws_secretsmanager_secret" "broker" {
  for_each = local.secrets

  #checkov:skip=CKV_AWS_149:The key is var.kms_key_arn; without it the AWS-managed key of Secrets Manager is used.
  #checkov:skip=CKV2_AWS_57:The tokens are also configured in Instruqt and in CSP, so a rotation function alone could not replace them.
  name                    = "${var.name}/${each.value.name}"
  description             = each.value.description
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.secrets_recovery_window_days
}
