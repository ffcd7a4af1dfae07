locals {
  creates_certificate = var.certificate_arn == null
  certificate_arn     = local.creates_certificate ? aws_acm_certificate_validation.main[0].certificate_arn : var.certificate_arn
  # The certificate has one name, so there is one validation record.
  validation = local.creates_certificate ? tolist(aws_acm_certificate.main[0].domain_validation_options)[0] : null
}

resource "aws_acm_certificate" "main" {
  count = local.creates_certificate ? 1 : 0

  domain_name       = var.domain_name
  validation_method = "DNS"

  lifecycle {
    # The listener uses the old certificate until the new one exists.
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  count = local.creates_certificate ? 1 : 0

  zone_id         = var.route53_zone_id
  name            = local.validation.resource_record_name
  type            = local.validation.resource_record_type
  records         = [local.validation.resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "main" {
  count = local.creates_certificate ? 1 : 0

  certificate_arn         = aws_acm_certificate.main[0].arn
  validation_record_fqdns = aws_route53_record.validation[*].fqdn
}

resource "aws_route53_record" "broker" {
  count = var.route53_zone_id == null ? 0 : 1

  zone_id = var.route53_zone_id
  name    = var.domain_name
  type    = "A"

  alias {
    name                   = aws_lb.main.dns_name
    zone_id                = aws_lb.main.zone_id
    evaluate_target_health = true
  }
}
