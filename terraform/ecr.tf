resource "aws_ecr_repository" "broker" {
  #checkov:skip=CKV_AWS_136:The key is var.kms_key_arn; without it an AWS-managed key encrypts the images, which contain no secrets.
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"

  encryption_configuration {
    encryption_type = var.kms_key_arn == null ? "AES256" : "KMS"
    kms_key         = var.kms_key_arn
  }
  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "broker" {
  repository = aws_ecr_repository.broker.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Remove failed and replaced builds. Images of an index that is kept are kept with it"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        # Only tagged images are versions: a release pushes an index with a tag, and an image per architecture without.
        description = "Keep the versions that a rollback may need"
        selection   = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = var.versions_kept }
        action      = { type = "expire" }
      },
    ]
  })
}
