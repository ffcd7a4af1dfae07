# The roles of the workflows deploy.yml and release.yml, which log in with GitHub's OIDC tokens. docs/github.md describes
# the setup. An operator creates them with the first apply; from then on they manage themselves.

locals {
  github = var.github[*]

  # The beginning of the tokens' subject. GitHub puts ids behind both names for repositories that were created, renamed or
  # moved since 2026-07-15, and for those that opted in: an owner or repository that takes over an abandoned name has other
  # ids. Exactly one form is trusted, because the form without ids could be claimed in that way.
  github_subjects = [
    for github in local.github : github.repository_id == null ? "repo:${github.repository}" : format(
      "repo:%s@%d/%s@%d",
      split("/", github.repository)[0], github.owner_id,
      split("/", github.repository)[1], github.repository_id,
    )
  ]

  # Role to the runs that it trusts.
  github_runs = {
    plan  = ["pull_request", "ref:refs/heads/main"]
    apply = ["environment:production"]
    push  = ["environment:release"]
  }
  github_roles = { for role, runs in local.github_runs : role => runs if length(local.github) > 0 }

  github_provider_arn = one([
    for github in local.github : github.oidc_provider_arn == null ? aws_iam_openid_connect_provider.github[0].arn : github.oidc_provider_arn
  ])
  github_state_arn = one([for github in local.github : "arn:${local.partition}:s3:::${github.state_bucket}"])
}

resource "aws_iam_openid_connect_provider" "github" {
  count = length([for github in local.github : github if github.oidc_provider_arn == null])

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "github_trust" {
  for_each = local.github_roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.github_provider_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = [for run in each.value : "${local.github_subjects[0]}:${run}"]
    }
  }
}

resource "aws_iam_role" "github" {
  for_each = local.github_roles

  name               = "${var.name}-github-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.github_trust[each.key].json
}

# plan: a pull request runs its own code with this role, so it reads neither secrets nor callers.

resource "aws_iam_role_policy_attachment" "github_plan" {
  count = length(local.github)

  role       = aws_iam_role.github["plan"].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/ReadOnlyAccess"
}

data "aws_iam_policy_document" "github_plan" {
  count = length(local.github)

  statement {
    sid       = "StorePlans"
    actions   = ["s3:PutObject"]
    resources = ["${local.github_state_arn}/plans/*"]
  }

  # Terraform keeps this secret in the state, which the role reads as well.
  dynamic "statement" {
    for_each = var.single_sign_on[*].client_secret_arn

    content {
      sid       = "ReadClientSecret"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }

  statement {
    sid    = "NoData"
    effect = "Deny"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:GetItem",
      "dynamodb:PartiQLSelect",
      "dynamodb:Query",
      "dynamodb:Scan",
      "logs:FilterLogEvents",
      "logs:GetLogEvents",
      "logs:GetLogRecord",
      "logs:GetQueryResults",
      "logs:StartLiveTail",
      "logs:StartQuery",
      "secretsmanager:BatchGetSecretValue",
      "secretsmanager:GetSecretValue",
    ]
    resources     = local.is_sign_on ? null : ["*"]
    not_resources = var.single_sign_on[*].client_secret_arn
  }
}

resource "aws_iam_role_policy" "github_plan" {
  count = length(local.github)

  name   = "plan"
  role   = aws_iam_role.github["plan"].id
  policy = data.aws_iam_policy_document.github_plan[0].json
}

# apply: a role that may change roles is an administrator in effect. Reviewers of the environment `production` guard it.

resource "aws_iam_role_policy_attachment" "github_apply" {
  count = length(local.github)

  role       = aws_iam_role.github["apply"].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/PowerUserAccess"
}

data "aws_iam_policy_document" "github_apply" {
  count = length(local.github)

  statement {
    sid = "Roles"
    actions = [
      "iam:AttachRolePolicy",
      "iam:CreateRole",
      "iam:DeleteRole",
      "iam:DeleteRolePolicy",
      "iam:DetachRolePolicy",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
      "iam:PassRole",
      "iam:PutRolePolicy",
      "iam:TagRole",
      "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole",
    ]
    resources = ["arn:${local.partition}:iam::${local.account_id}:role/${var.name}-*"]
  }

  statement {
    sid = "Provider"
    actions = [
      "iam:CreateOpenIDConnectProvider",
      "iam:DeleteOpenIDConnectProvider",
      "iam:GetOpenIDConnectProvider",
      "iam:TagOpenIDConnectProvider",
      "iam:UntagOpenIDConnectProvider",
    ]
    resources = ["arn:${local.partition}:iam::${local.account_id}:oidc-provider/token.actions.githubusercontent.com"]
  }
}

resource "aws_iam_role_policy" "github_apply" {
  count = length(local.github)

  name   = "apply"
  role   = aws_iam_role.github["apply"].id
  policy = data.aws_iam_policy_document.github_apply[0].json
}

# push: releases copy their image.

data "aws_iam_policy_document" "github_push" {
  count = length(local.github)

  statement {
    #checkov:skip=CKV_AWS_356:This action supports no resource restriction.
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.broker.arn]
  }
}

resource "aws_iam_role_policy" "github_push" {
  count = length(local.github)

  name   = "push"
  role   = aws_iam_role.github["push"].id
  policy = data.aws_iam_policy_document.github_push[0].json
}
