# AWS services that the tasks reach without the NAT gateway. The gateway endpoints are free; an interface endpoint costs
# more a month than the traffic of this deployment through the NAT gateway. The default is the one whose absence matters:
# with it, brokers read tokens that were rotated while the NAT gateway's zone is down.

locals {
  ecr_actions = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
  ]
  # Actions of each endpoint in var.interface_endpoints.
  interface_endpoint_actions = {
    "ecr.api"      = local.ecr_actions
    "ecr.dkr"      = local.ecr_actions
    logs           = ["logs:CreateLogStream", "logs:PutLogEvents"]
    secretsmanager = ["secretsmanager:GetSecretValue"]
  }
}

data "aws_iam_policy_document" "dynamodb_endpoint" {
  statement {
    # Only principals of this account and only these tables, so that no data can leave for a table of another account.
    actions   = local.table_actions.on_table
    resources = concat(values(local.table_arns), local.index_arns)

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_vpc_endpoint" "dynamodb" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.dynamodb"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = aws_route_table.private[*].id
  policy            = data.aws_iam_policy_document.dynamodb_endpoint.json

  tags = { Name = "${var.name}-dynamodb" }
}

data "aws_iam_policy_document" "s3_endpoint" {
  #checkov:skip=CKV_AWS_283:Layers are fetched through URLs that ECR signs, so the principal is ECR and not a role of this account.
  statement {
    # The bucket, owned by AWS, in which ECR stores image layers. The tasks read nothing else from S3.
    actions   = ["s3:GetObject"]
    resources = ["arn:${local.partition}:s3:::prod-${var.region}-starport-layer-bucket/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
  }
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = aws_route_table.private[*].id
  policy            = data.aws_iam_policy_document.s3_endpoint.json

  tags = { Name = "${var.name}-s3" }
}

data "aws_iam_policy_document" "interface_endpoint" {
  for_each = var.interface_endpoints

  statement {
    # The roles restrict the secrets and log groups; this policy restricts the endpoint to principals of this account.
    actions   = local.interface_endpoint_actions[each.key]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each = var.interface_endpoints

  vpc_id              = aws_vpc.main.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = aws_subnet.private[*].id
  security_group_ids  = [aws_security_group.endpoints.id]
  policy              = data.aws_iam_policy_document.interface_endpoint[each.key].json

  tags = { Name = "${var.name}-${each.key}" }
}
