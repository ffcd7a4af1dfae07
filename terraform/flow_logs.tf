resource "aws_flow_log" "main" {
  count = var.flow_log_traffic == "NONE" ? 0 : 1

  vpc_id          = aws_vpc.main.id
  traffic_type    = var.flow_log_traffic
  log_destination = aws_cloudwatch_log_group.main["flow"].arn
  iam_role_arn    = aws_iam_role.flow_logs[0].arn
}

data "aws_iam_policy_document" "flow_logs_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

data "aws_iam_policy_document" "flow_logs" {
  count = var.flow_log_traffic == "NONE" ? 0 : 1

  statement {
    actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    # Streams are named after network interfaces, whose ids are not known in advance.
    resources = ["${aws_cloudwatch_log_group.main["flow"].arn}:*"]
  }

  statement {
    # The service finds its log group by listing all of them.
    actions   = ["logs:DescribeLogGroups"]
    resources = ["arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:*"]
  }
}

resource "aws_iam_role" "flow_logs" {
  count = var.flow_log_traffic == "NONE" ? 0 : 1

  name               = "${var.name}-flow-logs"
  assume_role_policy = data.aws_iam_policy_document.flow_logs_trust.json
}

resource "aws_iam_role_policy" "flow_logs" {
  count = var.flow_log_traffic == "NONE" ? 0 : 1

  name   = "write-flow-logs"
  role   = aws_iam_role.flow_logs[0].id
  policy = data.aws_iam_policy_document.flow_logs[0].json
}
