# General

variable "region" {
  description = "The AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region has to be the code of a region, such as eu-west-1."
  }
}

variable "name" {
  description = "The name, or name prefix, of all resources. Two deployments in one account and region need different names."
  type        = string
  default     = "sandbox-broker"

  validation {
    # The load balancer has the strictest limit: 32 characters, with no hyphen at either end.
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "name has to be 2 to 24 lower-case letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "tags" {
  description = "Tags of all resources, in addition to Service and ManagedBy."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:")])
    error_message = "Tag keys must not begin with aws:, which AWS reserves."
  }
}

variable "kms_key_arn" {
  description = "A customer-managed KMS key for the tables, the secrets, the logs, the images, the alarms and the dead letters. If null, AWS's own keys encrypt them. README.md lists the permissions that the key's policy has to grant."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn has to be the ARN of a key, not an alias."
  }
}

# Network

variable "vpc_cidr" {
  description = "The address range of the VPC. Each subnet takes a sixteenth of it."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.vpc_cidr)[1]), 99) <= 22
    error_message = "vpc_cidr has to be an IPv4 range from /16 to /22; the load balancer needs subnets of /27 or larger."
  }
}

variable "availability_zones" {
  description = "The availability zones to use, two to four. Listed by name, because the order of a list queried from AWS may change, which would move the subnets."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 2 && length(var.availability_zones) <= 4 && length(distinct(var.availability_zones)) == length(var.availability_zones)
    error_message = "availability_zones has to be two to four different zones."
  }
  validation {
    condition     = alltrue([for zone in var.availability_zones : can(regex("^${var.region}[a-z]$", zone))])
    error_message = "availability_zones has to be zones of the region, such as eu-west-1a."
  }
}

variable "nat_gateways" {
  description = "single: one NAT gateway for all zones. While its zone is down, CSP is unreachable, and tasks start only if interface_endpoints has ecr.api, ecr.dkr and logs; allocations continue, because DynamoDB has its own endpoint. per_az: one NAT gateway in every zone."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "per_az"], var.nat_gateways)
    error_message = "nat_gateways has to be single or per_az."
  }
}

variable "interface_endpoints" {
  description = "The services that are reached through interface endpoints in the VPC: secretsmanager, ecr.api, ecr.dkr, logs. The traffic of all others uses the NAT gateway, which is cheaper for small volumes."
  type        = set(string)
  default     = ["secretsmanager"]

  validation {
    condition     = length(setsubtract(var.interface_endpoints, ["ecr.api", "ecr.dkr", "logs", "secretsmanager"])) == 0
    error_message = "interface_endpoints has to be a set of secretsmanager, ecr.api, ecr.dkr and logs."
  }
}

variable "flow_log_traffic" {
  description = "The network traffic that VPC flow logs record: ALL, REJECT or NONE."
  type        = string
  default     = "REJECT"

  validation {
    condition     = contains(["ALL", "REJECT", "NONE"], var.flow_log_traffic)
    error_message = "flow_log_traffic has to be ALL, REJECT or NONE."
  }
}

# Entry point

variable "certificate_arn" {
  description = "The ARN of an ACM certificate in this region. If null, a certificate is created, which requires route53_zone_id."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn != null || var.route53_zone_id != null
    error_message = "HTTPS needs a certificate: set certificate_arn, or route53_zone_id and domain_name to create one."
  }
  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "certificate_arn has to be the ARN of an ACM certificate."
  }
}

variable "route53_zone_id" {
  description = "The id of the public Route 53 zone in which to create a record for domain_name. If null, no record is created."
  type        = string
  default     = null

  validation {
    condition     = var.route53_zone_id == null || can(regex("^Z[A-Z0-9]+$", var.route53_zone_id))
    error_message = "route53_zone_id has to be the id of a zone, such as Z0123456789ABCDEFGHIJ."
  }
  validation {
    condition     = var.route53_zone_id == null || var.domain_name != null
    error_message = "A record needs a name: set domain_name as well."
  }
}

variable "domain_name" {
  description = "The broker's host name."
  type        = string
  default     = null

  validation {
    condition     = var.domain_name == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain_name))
    error_message = "domain_name has to be a full host name in lower case, such as broker.example.com."
  }
}

variable "tls_policy" {
  description = "The load balancer's TLS policy. The default accepts TLS 1.3, and TLS 1.2 with forward secrecy."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"

  validation {
    condition     = can(regex("^ELBSecurityPolicy-TLS13-1-[23]-", var.tls_policy)) && !can(regex("-Ext[12]-", var.tls_policy))
    error_message = "tls_policy has to be one of the TLS13-1-2 or TLS13-1-3 policies without the old ciphers of Ext1 and Ext2."
  }
}

variable "client_cidrs" {
  description = "IPv4 ranges that may call the broker. Instruqt's hosts have no fixed addresses, so the default is all addresses; tokens and the WAF protect the broker."
  type        = set(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "client_cidrs has to be one or more IPv4 ranges."
  }
}

variable "admin_cidrs" {
  description = "IPv4 ranges that may reach /metrics, /v1/admin and /dashboard. If empty, these paths are unreachable through the load balancer."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.admin_cidrs) <= 20 && alltrue([for cidr in var.admin_cidrs : can(cidrnetmask(cidr))])
    error_message = "admin_cidrs has to be at most 20 IPv4 ranges."
  }
  validation {
    condition     = !contains(var.admin_cidrs, "0.0.0.0/0")
    error_message = "admin_cidrs restricts access to the admin paths; 0.0.0.0/0 would open them to every address."
  }
}

variable "single_sign_on" {
  description = "The OpenID Connect provider with which the load balancer signs people in before /dashboard and /v1/admin, in addition to admin_cidrs; requests with a bearer token pass as before. issuer and the three endpoints: as in the provider's discovery document. client_secret_arn: the secret in Secrets Manager that has the client's secret as its text. session_timeout_sec: after it people sign in again. groups_claim: the claim with a person's groups. admins, operators, viewers: who has which role, as group:NAME, email:ADDRESS, group:* or email:*. If null, there is no single sign-on."
  type = object({
    issuer                 = string
    authorization_endpoint = string
    token_endpoint         = string
    user_info_endpoint     = string
    client_id              = string
    client_secret_arn      = string
    scope                  = optional(string, "openid email profile")
    session_timeout_sec    = optional(number, 28800)
    groups_claim           = optional(string, "groups")
    admins                 = optional(set(string), [])
    operators              = optional(set(string), [])
    viewers                = optional(set(string), [])
  })
  default = null

  validation {
    condition     = var.single_sign_on == null || length(var.admin_cidrs) > 0
    error_message = "single_sign_on has no effect without admin_cidrs, which still restrict the addresses."
  }
  validation {
    condition = var.single_sign_on == null || alltrue([
      for url in try(values({ for key, value in var.single_sign_on : key => value if key == "issuer" || endswith(key, "_endpoint") }), []) :
      startswith(url, "https://")
    ])
    error_message = "The issuer and the endpoints of single_sign_on have to be https URLs."
  }
  validation {
    condition     = var.single_sign_on == null || can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:", var.single_sign_on.client_secret_arn))
    error_message = "single_sign_on.client_secret_arn has to be the ARN of a secret in Secrets Manager."
  }
  validation {
    condition     = var.single_sign_on == null || contains(split(" ", try(var.single_sign_on.scope, "")), "openid")
    error_message = "single_sign_on.scope has to contain openid."
  }
  validation {
    condition     = var.single_sign_on == null || try(var.single_sign_on.session_timeout_sec >= 60 && var.single_sign_on.session_timeout_sec <= 604800, false)
    error_message = "single_sign_on.session_timeout_sec has to be 60 to 604800 (7 days)."
  }
  validation {
    condition     = var.single_sign_on == null || length(try(setunion(var.single_sign_on.admins, var.single_sign_on.operators, var.single_sign_on.viewers), [])) > 0
    error_message = "single_sign_on gives nobody a role: name somebody in admins, operators or viewers."
  }
  validation {
    condition = var.single_sign_on == null || alltrue([
      for entry in try(setunion(var.single_sign_on.admins, var.single_sign_on.operators, var.single_sign_on.viewers), []) :
      can(regex("^(group:[^,]*[^, ]|email:([^@, ]+@[^@, ]+|[*]))$", entry))
    ])
    error_message = "admins, operators and viewers of single_sign_on take group:NAME, email:ADDRESS, group:* and email:*, without commas."
  }
}

variable "rate_limit_per_5_minutes" {
  description = "The maximum number of requests from one address in five minutes; the WAF blocks requests above it. A class behind one address shares this limit: list its address in classroom_cidrs."
  type        = number
  default     = 2000

  validation {
    condition     = var.rate_limit_per_5_minutes >= 100 && floor(var.rate_limit_per_5_minutes) == var.rate_limit_per_5_minutes
    error_message = "rate_limit_per_5_minutes has to be a whole number of at least 100."
  }
}

variable "classroom_cidrs" {
  description = "IPv4 ranges that are exempt from the WAF's rate rule. 1,000 students behind one NAT send 1,000 allocations, their retries and 1,000 releases from one address, which exceeds the limit without being an attack. All other rules, and the broker's own limits, still apply."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.classroom_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")])
    error_message = "classroom_cidrs has to be IPv4 ranges; WAF accepts /1 to /32."
  }
}

variable "waf_logging" {
  description = "Whether the WAF logs the requests that it blocked or counted, without their Authorization header."
  type        = bool
  default     = false
}

variable "alb_deletion_protection" {
  description = "Whether the load balancer is protected against deletion."
  type        = bool
  default     = true
}

variable "alb_logs_retention_days" {
  description = "The retention of the load balancer's access logs, in days."
  type        = number
  default     = 90

  validation {
    condition     = var.alb_logs_retention_days >= 1 && floor(var.alb_logs_retention_days) == var.alb_logs_retention_days
    error_message = "alb_logs_retention_days has to be a whole number of at least 1."
  }
}

# Broker

variable "image_tag" {
  description = "The image tag to run, from this deployment's repository. Tags are immutable: every new image needs a new tag."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag has to be a tag other than latest, which does not identify a version."
  }
}

variable "versions_kept" {
  description = "The number of versions (image tags) that the repository keeps. A version is needed as long as a task definition may be started that names it."
  type        = number
  default     = 30

  validation {
    condition     = var.versions_kept >= 2 && floor(var.versions_kept) == var.versions_kept
    error_message = "versions_kept has to be a whole number of at least 2: the running version, and the one before."
  }
}

variable "cpu_architecture" {
  description = "The architecture for which the image was built: X86_64 or ARM64."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture has to be X86_64 or ARM64."
  }
}

variable "task_size" {
  description = "CPU units (1024 are one vCPU) and memory in MiB of a broker task and of a worker or job task. Fargate supports only certain pairs."
  type = object({
    broker_cpu    = optional(number, 512)
    broker_memory = optional(number, 1024)
    job_cpu       = optional(number, 256)
    job_memory    = optional(number, 512)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for size in [[var.task_size.broker_cpu, var.task_size.broker_memory], [var.task_size.job_cpu, var.task_size.job_memory]] :
      contains(lookup({
        "256"  = [512, 1024, 2048]
        "512"  = [1024, 2048, 3072, 4096]
        "1024" = [2048, 3072, 4096, 5120, 6144, 7168, 8192]
        "2048" = [for gib in range(4, 17) : gib * 1024]
        "4096" = [for gib in range(8, 31) : gib * 1024]
      }, tostring(size[0]), []), size[1])
    ])
    error_message = "task_size has a pair of CPU and memory that Fargate does not support, or one above 4 vCPU, which the broker cannot use."
  }
}

variable "task_count" {
  description = "The minimum and maximum number of broker tasks. Use two or more, so that one remains when a zone fails."
  type = object({
    min = optional(number, 2)
    max = optional(number, 10)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.task_count.min >= 1 && var.task_count.max >= var.task_count.min && var.task_count.max <= 100
    error_message = "task_count has to be 1 <= min <= max <= 100."
  }
}

variable "requests_per_task_per_minute" {
  description = "The request rate per task above which autoscaling adds tasks. Far below the capacity of a task, because all students of a class start within seconds and a new task takes a minute to start."
  type        = number
  default     = 3000

  validation {
    condition     = var.requests_per_task_per_minute > 0
    error_message = "requests_per_task_per_minute has to be positive."
  }
}

variable "container_port" {
  description = "The port on which the broker listens."
  type        = number
  default     = 8080

  validation {
    # The broker does not run as root, so it cannot bind a port below 1024.
    condition     = var.container_port >= 1024 && var.container_port <= 65535 && floor(var.container_port) == var.container_port
    error_message = "container_port has to be a port from 1024 to 65535."
  }
}

variable "metrics_port" {
  description = "A separate port for /metrics (METRICS_PORT), which the load balancer does not reach. If null, /metrics stays on container_port."
  type        = number
  default     = null

  validation {
    condition     = var.metrics_port == null || try(var.metrics_port >= 1024 && var.metrics_port <= 65535 && var.metrics_port != var.container_port, false)
    error_message = "metrics_port has to be a port from 1024 to 65535 and not container_port."
  }
}

variable "metrics_security_group_id" {
  description = "The security group of the Prometheus server or agent that may reach metrics_port. If null, metrics_port is closed."
  type        = string
  default     = null

  validation {
    condition     = var.metrics_security_group_id == null || can(regex("^sg-[0-9a-f]+$", var.metrics_security_group_id))
    error_message = "metrics_security_group_id has to be the id of a security group."
  }
}

variable "container_user" {
  description = "UID:GID of the broker in its container; root is not allowed."
  type        = string
  default     = "65532:65532"

  validation {
    condition     = can(regex("^[1-9][0-9]*:[1-9][0-9]*$", var.container_user))
    error_message = "container_user has to be UID:GID in numbers, neither of them 0."
  }
}

variable "log_level" {
  description = "LOG_LEVEL. The alarms depend on events logged at info."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["info", "debug", "trace"], var.log_level)
    error_message = "log_level has to be info, debug or trace; at warn and error the events behind the alarms would be missing."
  }
}

variable "niosxaas_enabled" {
  description = "NIOSXAAS_ENABLED: whether NIOSXaaS services are deleted before their account. Set the value of the secret niosxaas first."
  type        = bool
  default     = false
}

variable "secrets_refresh_sec" {
  description = "SECRETS_REFRESH_SEC: the interval at which the broker refreshes its secrets, in seconds."
  type        = number
  default     = 300

  validation {
    condition     = var.secrets_refresh_sec >= 1 && var.secrets_refresh_sec <= 86400
    error_message = "secrets_refresh_sec has to be 1 to 86400."
  }
}

variable "secrets_overlap_sec" {
  description = "SECRETS_OVERLAP_SEC: how long the previous tokens stay valid after a rotation, in seconds."
  type        = number
  default     = 86400

  validation {
    condition     = var.secrets_overlap_sec >= 0 && var.secrets_overlap_sec <= 31536000
    error_message = "secrets_overlap_sec has to be 0 to 31536000."
  }
}

variable "secrets_recovery_window_days" {
  description = "How long a deleted secret can be restored, in days."
  type        = number
  default     = 30

  validation {
    condition     = var.secrets_recovery_window_days >= 7 && var.secrets_recovery_window_days <= 30
    error_message = "secrets_recovery_window_days has to be 7 to 30."
  }
}

variable "extra_environment" {
  description = "Further environment variables of the broker, such as LAB_DURATION_HOURS; docs/configuration.md lists them. Never secrets: a task's environment is visible in the console and stored in the state."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.extra_environment) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "Names in extra_environment have to consist of capital letters, digits and underscores."
  }
  validation {
    condition = alltrue([
      for name in keys(var.extra_environment) :
      !can(regex("TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY|NIOSXAAS_EMAIL", name))
    ])
    error_message = "extra_environment has a name that looks like a secret's. Store secrets in Secrets Manager."
  }
  validation {
    condition = length(setintersection(keys(var.extra_environment), [
      "ALB_OIDC_ADMINS", "ALB_OIDC_CLIENT_ID", "ALB_OIDC_GROUPS_CLAIM", "ALB_OIDC_ISSUER", "ALB_OIDC_OPERATORS",
      "ALB_OIDC_SIGNER_ARN", "ALB_OIDC_VIEWERS", "API_BASE_PATH", "AUTO_DELETE_STALE_INTERVAL_SEC", "AUTO_EXPIRY_INTERVAL_SEC", "AWS_REGION",
      "CHECK_INTERVAL_SEC", "CHECK_MODE", "CLEANUP_INTERVAL_SEC", "CSP_MODE", "DDB_COMPANION_TABLE_NAME", "DDB_ENDPOINT_URL", "DDB_GSI1_NAME",
      "DDB_GSI2_NAME", "DDB_GSI3_NAME", "DDB_TABLE_NAME", "HOST", "KEEP_ALIVE_SEC", "LOG_FORMAT", "LOG_LEVEL", "METRICS_PORT", "NIOSXAAS_ENABLED",
      "OTEL_EXPORTER_OTLP_ENDPOINT", "PORT", "REFILL_INTERVAL_SEC", "REFILL_MODE", "RUN_JOBS", "SHUTDOWN_DELAY_SEC", "SHUTDOWN_TIMEOUT_SEC", "STORE", "SYNC_INTERVAL_SEC",
      "TRUSTED_PROXY_HOPS",
    ])) == 0
    error_message = "extra_environment has a name whose value follows from other variables or that the load balancer, the permissions or the alarms depend on."
  }
}

# Jobs

variable "jobs_runner" {
  description = "scheduler: EventBridge Scheduler starts a separate task for each run. worker: a service with one task runs all jobs at their intervals. Either starts when schedules_enabled is true."
  type        = string
  default     = "scheduler"

  validation {
    condition     = contains(["scheduler", "worker"], var.jobs_runner)
    error_message = "jobs_runner has to be scheduler or worker."
  }
}

variable "schedules_enabled" {
  description = "Whether the jobs run by themselves: whether the schedules are enabled, or the worker has a task. Disabled by default, so that a new deployment deletes nothing before it has been checked."
  type        = bool
  default     = false
}

variable "job_intervals_sec" {
  description = "The intervals of the jobs in seconds, each a multiple of 60."
  type = object({
    sync              = optional(number, 600)
    cleanup           = optional(number, 300)
    auto_expire       = optional(number, 300)
    auto_delete_stale = optional(number, 86400)
    check             = optional(number, 60)
    refill            = optional(number, 60)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for sec in values(var.job_intervals_sec) : sec >= 60 && sec <= 86400 && sec % 60 == 0])
    error_message = "Every interval has to be a multiple of 60 from 60 to 86400."
  }
}

variable "check_mode" {
  description = "CHECK_MODE: whether the job check tests that accounts can be used. off: no. new: those of new sandboxes, before they are available. all: also those of available ones from time to time. Set the value of the secret niosxaas first: the job signs in as that user."
  type        = string
  default     = "off"

  validation {
    condition     = contains(["off", "new", "all"], var.check_mode)
    error_message = "check_mode has to be off, new or all."
  }
}

variable "refill_mode" {
  description = "REFILL_MODE: whether the job refill creates accounts in CSP for the pools of the policy that are below their target. off: no. plan: it only reports what it would do. on: yes."
  type        = string
  default     = "off"

  validation {
    condition     = contains(["off", "plan", "on"], var.refill_mode)
    error_message = "refill_mode has to be off, plan or on."
  }
}

# A warning of the plan, as check-config gives one.
check "new_accounts" {
  assert {
    condition     = !local.creates_accounts || local.checks_accounts
    error_message = "refill_mode is on and check_mode is off: new accounts are handed out before they can be used. Set check_mode to new."
  }
}

# Table

variable "table_name" {
  description = "The DynamoDB table of the pool."
  type        = string
  default     = "SandboxPool"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name has to be 3 to 255 letters, digits, underscores, hyphens and dots."
  }
}

variable "companion_table_name" {
  description = "The companion table, which stores all items that are neither sandboxes nor NIOSXaaS records. If null, its name is table_name followed by -companion."
  type        = string
  default     = null

  validation {
    condition = (
      can(regex("^[A-Za-z0-9_.-]{3,255}$", coalesce(var.companion_table_name, "${var.table_name}-companion"))) &&
      var.companion_table_name != var.table_name
    )
    error_message = "companion_table_name has to be 3 to 255 letters, digits, underscores, hyphens and dots, and not table_name."
  }
}

variable "create_table" {
  description = "Whether this deployment manages the pool's table. If false, the table has to exist, with its key and its three indexes. The companion table is always managed."
  type        = bool
  default     = true
}

variable "import_tables" {
  description = "The tables that exist and are to be managed here from now on: pool (the FastAPI service's table, or a restored one), companion (a restored one). README.md and docs/operations.md have the steps. May stay set."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.import_tables, ["pool", "companion"])) == 0
    error_message = "import_tables has to be a set of pool and companion."
  }
  validation {
    condition     = var.create_table || !contains(var.import_tables, "pool")
    error_message = "import_tables names the pool's table, which create_table = false leaves unmanaged."
  }
}

variable "table_encryption" {
  description = "The encryption of both tables: aws-owned, aws-managed (the account's key alias/aws/dynamodb, as the FastAPI service's table has), or the ARN of a customer-managed key. If null, kms_key_arn, or aws-owned without it."
  type        = string
  default     = null

  validation {
    condition     = var.table_encryption == null || can(regex("^(aws-owned|aws-managed|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+)$", var.table_encryption))
    error_message = "table_encryption has to be aws-owned, aws-managed or the ARN of a key."
  }
}

# Observability

variable "log_retention_days" {
  description = "The retention of the log groups, in days."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days has to be a retention that CloudWatch Logs offers."
  }
}

variable "container_insights" {
  description = "ECS Container Insights: enabled, enhanced or disabled. Its metrics are charged."
  type        = string
  default     = "enabled"

  validation {
    condition     = contains(["enabled", "enhanced", "disabled"], var.container_insights)
    error_message = "container_insights has to be enabled, enhanced or disabled."
  }
}

variable "alarm_emails" {
  description = "Email addresses that receive alarms. Each has to confirm the subscription email from SNS."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))])
    error_message = "alarm_emails has to be email addresses."
  }
}

variable "alarm_thresholds" {
  description = "pool_available: alarm below this number of available sandboxes. errors_5xx: alarm above this number of 5xx answers in five minutes. endless_pause_hours: alarm if a pause without an end lasts longer. allocate_p99_ms: alarm above this 99th percentile of the allocation latency, in milliseconds. cpu_percent, memory_percent: alarm above this use of the tasks of a service."
  type = object({
    pool_available      = optional(number, 20)
    errors_5xx          = optional(number, 10)
    endless_pause_hours = optional(number, 24)
    allocate_p99_ms     = optional(number, 1000)
    cpu_percent         = optional(number, 90)
    memory_percent      = optional(number, 85)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for threshold in values(var.alarm_thresholds) : threshold >= 0])
    error_message = "Thresholds cannot be negative."
  }
}

variable "tracing_enabled" {
  description = "Whether a collector sidecar sends the traces of the broker and of the worker to X-Ray. Tasks of scheduled jobs are not traced."
  type        = bool
  default     = false
}

variable "collector_image" {
  description = "The image of the AWS Distro for OpenTelemetry collector."
  type        = string
  default     = "public.ecr.aws/aws-observability/aws-otel-collector:v0.49.0"

  validation {
    condition     = can(regex(":v[0-9]|@sha256:", var.collector_image))
    error_message = "collector_image has to name a version or a digest."
  }
}

# Deployments from GitHub

variable "github" {
  description = "The repository whose workflows deploy.yml and release.yml may plan, apply and push. repository: OWNER/NAME. owner_id and repository_id: its ids, if its OIDC tokens have them, as those of repositories created since 2026-07-15 do; docs/github.md has the command that shows them. state_bucket: the bucket of backend.tf. oidc_provider_arn: the account's provider for GitHub, if it has one already. If null, there are no such roles."
  type = object({
    repository        = string
    owner_id          = optional(number)
    repository_id     = optional(number)
    state_bucket      = string
    oidc_provider_arn = optional(string)
  })
  default = null

  validation {
    condition     = var.github == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github.repository))
    error_message = "github.repository has to be OWNER/NAME."
  }
  validation {
    condition     = var.github == null || (try(var.github.owner_id, null) == null) == (try(var.github.repository_id, null) == null)
    error_message = "github needs owner_id and repository_id, or neither of them."
  }
}
