# Run `tflint --chdir=terraform --init` once, then `tflint --chdir=terraform`.
tflint {
  required_version = ">= 0.60"
}

plugin "terraform" {
  enabled = true
  preset  = "recommended"
}

# Checks values against those that AWS accepts, which `terraform validate` does not.
plugin "aws" {
  enabled = true
  version = "0.49.0"
  source  = "github.com/terraform-linters/tflint-ruleset-aws"
}
