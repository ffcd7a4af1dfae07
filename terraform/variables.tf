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
  description = "What everything is named after. Two deployments in one account and region need different names."
  type        = string
  default     = "sandbox-broker"

  validation {
    # The shortest limit is the load balancer's: 32 characters, with no hyphen at either end.
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "name has to be 2 to 24 lower-case letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "tags" {
  description = "Tags of everything, besides Service and ManagedBy."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:")])
    error_message = "AWS keeps the prefix aws: for itself."
  }
}

variable "kms_key_arn" {
  description = "A customer-managed KMS key for the table, the secrets, the logs, the images, the alarms and the dead letters. AWS's own keys encrypt them if it is null. README.md says what the key's policy has to allow."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn has to be the ARN of a key, not an alias."
  }
}

# Network

variable "vpc_cidr" {
  description = "The addresses of the VPC. Every subnet takes a sixteenth of them."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]), 0) >= 16 && try(tonumber(split("/", var.vpc_cidr)[1]), 99) <= 22
    error_message = "vpc_cidr has to be an IPv4 range from /16 to /22; the load balancer needs subnets of /27 or larger."
  }
}

variable "availability_zones" {
  description = "The zones to spread over, two or more. By name, for a list asked of AWS may change its order, and the subnets would move."
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
  description = "single: one NAT gateway for all zones; while its zone is down, CSP is out of reach, but allocations go on, for DynamoDB has an endpoint of its own. per_az: one in every zone."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "per_az"], var.nat_gateways)
    error_message = "nat_gateways has to be single or per_az."
  }
}

variable "interface_endpoints" {
  description = "Whether Secrets Manager, ECR and CloudWatch Logs are reached by endpoints in the VPC. Without them the traffic goes through the NAT gateway, which is cheaper while there is little of it."
  type        = bool
  default     = true
}

variable "flow_log_traffic" {
  description = "Which network traffic is logged: ALL, REJECT or NONE."
  type        = string
  default     = "REJECT"

  validation {
    condition     = contains(["ALL", "REJECT", "NONE"], var.flow_log_traffic)
    error_message = "flow_log_traffic has to be ALL, REJECT or NONE."
  }
}

# Entrance

variable "certificate_arn" {
  description = "An ACM certificate of this region. One is made if it is null and route53_zone_id is set."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn != null || var.route53_zone_id != null
    error_message = "HTTPS needs a certificate: set certificate_arn, or route53_zone_id and domain_name to have one made."
  }
  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "certificate_arn has to be the ARN of an ACM certificate."
  }
}

variable "route53_zone_id" {
  description = "The public Route 53 zone that gets a record for domain_name. No record is made if it is null."
  type        = string
  default     = null

  validation {
    condition     = var.route53_zone_id == null || can(regex("^Z[A-Z0-9]+$", var.route53_zone_id))
    error_message = "route53_zone_id has to be the id of a zone, such as Z0123456789ABCDEFGHIJ."
  }
  validation {
    condition     = var.route53_zone_id == null || var.domain_name != null
    error_message = "A record needs a name: set domain_name too."
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
  description = "The load balancer's TLS policy. The default takes TLS 1.2 with forward secrecy, and TLS 1.3."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"

  validation {
    condition     = can(regex("^ELBSecurityPolicy-TLS13-1-[23]-", var.tls_policy)) && !can(regex("-Ext[12]-", var.tls_policy))
    error_message = "tls_policy has to be one of the TLS13-1-2 or TLS13-1-3 policies without the old ciphers of Ext1 and Ext2."
  }
}

variable "client_cidrs" {
  description = "From where the broker may be called. Instruqt's hosts have no fixed addresses, so the default is everywhere; the tokens and the WAF guard it."
  type        = set(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "client_cidrs has to be one or more IPv4 ranges."
  }
}

variable "admin_cidrs" {
  description = "From where /metrics, /v1/admin and /dashboard may be reached. Nobody reaches them through the load balancer if it is empty."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.admin_cidrs) <= 20 && alltrue([for cidr in var.admin_cidrs : can(cidrnetmask(cidr))])
    error_message = "admin_cidrs has to be at most 20 IPv4 ranges."
  }
  validation {
    condition     = !contains(var.admin_cidrs, "0.0.0.0/0")
    error_message = "admin_cidrs is there to keep everybody else out; 0.0.0.0/0 would let everybody in."
  }
}

variable "rate_limit_per_5_minutes" {
  description = "So many requests from one address in five minutes; the WAF blocks what is above. A class that shares an address counts as one: list it in classroom_cidrs."
  type        = number
  default     = 2000

  validation {
    condition     = var.rate_limit_per_5_minutes >= 100 && floor(var.rate_limit_per_5_minutes) == var.rate_limit_per_5_minutes
    error_message = "rate_limit_per_5_minutes has to be a whole number of at least 100."
  }
}

variable "classroom_cidrs" {
  description = "Addresses which the WAF's rate rule leaves alone. A thousand students behind one NAT send a thousand allocations, their retries and a thousand releases from one address, which is more than the limit and no attack. All other rules, and the broker's own limits, still hold for them."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.classroom_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")])
    error_message = "classroom_cidrs has to be IPv4 ranges; WAF takes /1 to /32."
  }
}

variable "waf_logging" {
  description = "Whether the WAF logs what it blocked or counted. The Authorization header is left out."
  type        = bool
  default     = false
}

variable "alb_deletion_protection" {
  description = "Whether the load balancer refuses to be deleted."
  type        = bool
  default     = true
}

variable "alb_logs_retention_days" {
  description = "How long the load balancer's access logs are kept."
  type        = number
  default     = 90

  validation {
    condition     = var.alb_logs_retention_days >= 1 && floor(var.alb_logs_retention_days) == var.alb_logs_retention_days
    error_message = "alb_logs_retention_days has to be a whole number of at least 1."
  }
}

# Broker

variable "image_tag" {
  description = "The tag of the image in this deployment's repository. Tags are immutable: a new image is a new tag."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag has to be a tag other than latest, which says nothing about what runs."
  }
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64: what the image was built for."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture has to be X86_64 or ARM64."
  }
}

variable "task_size" {
  description = "CPU units (1024 are one vCPU) and memory in MiB of a broker task and of a worker or job task. Fargate takes only certain pairs."
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
    error_message = "task_size has a pair of CPU and memory that Fargate does not offer (or one above 4 vCPU, which the broker cannot use)."
  }
}

variable "task_count" {
  description = "Broker tasks: at the least, and at the most. Two or more, so that one is left when a zone fails."
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
  description = "Tasks are added above this. Far below what a task can do, because a class starts all at once and a new task takes a minute."
  type        = number
  default     = 3000

  validation {
    condition     = var.requests_per_task_per_minute > 0
    error_message = "requests_per_task_per_minute has to be positive."
  }
}

variable "container_port" {
  description = "Where the broker listens."
  type        = number
  default     = 8080

  validation {
    # Without root's rights no port below 1024 can be had.
    condition     = var.container_port >= 1024 && var.container_port <= 65535 && floor(var.container_port) == var.container_port
    error_message = "container_port has to be a port from 1024 to 65535."
  }
}

variable "metrics_port" {
  description = "A port of its own for /metrics (METRICS_PORT), which the load balancer does not reach. /metrics stays on container_port if it is null."
  type        = number
  default     = null

  validation {
    condition     = var.metrics_port == null || try(var.metrics_port >= 1024 && var.metrics_port <= 65535 && var.metrics_port != var.container_port, false)
    error_message = "metrics_port has to be a port from 1024 to 65535 and not container_port."
  }
}

variable "metrics_security_group_id" {
  description = "The security group of the Prometheus server (or agent) that may reach metrics_port. Nobody may if it is null."
  type        = string
  default     = null

  validation {
    condition     = var.metrics_security_group_id == null || can(regex("^sg-[0-9a-f]+$", var.metrics_security_group_id))
    error_message = "metrics_security_group_id has to be the id of a security group."
  }
}

variable "container_user" {
  description = "UID:GID of the broker in its container; never root's."
  type        = string
  default     = "65532:65532"

  validation {
    condition     = can(regex("^[1-9][0-9]*:[1-9][0-9]*$", var.container_user))
    error_message = "container_user has to be UID:GID in numbers, neither of them 0."
  }
}

variable "log_level" {
  description = "LOG_LEVEL. The alarms read what is logged at info."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["info", "debug", "trace"], var.log_level)
    error_message = "log_level has to be info, debug or trace; at warn and error the events behind the alarms would be missing."
  }
}

variable "niosxaas_enabled" {
  description = "NIOSXAAS_ENABLED: whether NIOSXaaS services are deleted before their account. Adds a secret with the user who may."
  type        = bool
  default     = false
}

variable "secrets_refresh_sec" {
  description = "SECRETS_REFRESH_SEC: how often the broker reads its secrets again."
  type        = number
  default     = 300

  validation {
    condition     = var.secrets_refresh_sec >= 1 && var.secrets_refresh_sec <= 86400
    error_message = "secrets_refresh_sec has to be 1 to 86400."
  }
}

variable "secrets_overlap_sec" {
  description = "SECRETS_OVERLAP_SEC: how long after a rotation the previous tokens stay valid."
  type        = number
  default     = 86400

  validation {
    condition     = var.secrets_overlap_sec >= 0 && var.secrets_overlap_sec <= 31536000
    error_message = "secrets_overlap_sec has to be 0 to 31536000."
  }
}

variable "secrets_recovery_window_days" {
  description = "How long a deleted secret can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.secrets_recovery_window_days >= 7 && var.secrets_recovery_window_days <= 30
    error_message = "secrets_recovery_window_days has to be 7 to 30."
  }
}

variable "extra_environment" {
  description = "More of the broker's settings, such as LAB_DURATION_HOURS; the README of the repository lists them. Never a secret: the environment of a task is readable in the console and lies in the state."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.extra_environment) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "The names in extra_environment have to be capital letters, digits and underscores."
  }
  validation {
    condition = alltrue([
      for name in keys(var.extra_environment) :
      !can(regex("TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY|NIOSXAAS_EMAIL", name))
    ])
    error_message = "extra_environment has a name that looks like a secret's. Secrets belong into Secrets Manager."
  }
  validation {
    condition = length(setintersection(keys(var.extra_environment), [
      "API_BASE_PATH", "AUTO_DELETE_STALE_INTERVAL_SEC", "AUTO_EXPIRY_INTERVAL_SEC", "AWS_REGION",
      "CLEANUP_INTERVAL_SEC", "CSP_MODE", "DDB_ENDPOINT_URL", "DDB_GSI1_NAME", "DDB_GSI2_NAME", "DDB_GSI3_NAME",
      "DDB_TABLE_NAME", "HOST", "KEEP_ALIVE_SEC", "LOG_FORMAT", "LOG_LEVEL", "METRICS_PORT", "NIOSXAAS_ENABLED",
      "OTEL_EXPORTER_OTLP_ENDPOINT", "PORT", "RUN_JOBS", "SHUTDOWN_TIMEOUT_SEC", "STORE", "SYNC_INTERVAL_SEC",
      "TRUSTED_PROXY_HOPS",
    ])) == 0
    error_message = "extra_environment has a name whose value follows from other variables or that the load balancer, the permissions or the alarms depend on."
  }
}

# Jobs

variable "jobs_runner" {
  description = "scheduler: EventBridge Scheduler starts each run as a task of its own. worker: a service of one task runs them all on their intervals."
  type        = string
  default     = "scheduler"

  validation {
    condition     = contains(["scheduler", "worker"], var.jobs_runner)
    error_message = "jobs_runner has to be scheduler or worker."
  }
}

variable "schedules_enabled" {
  description = "Whether the schedules start anything. Off at first, so that a new deployment deletes nothing before somebody has looked at it."
  type        = bool
  default     = false
}

variable "job_intervals_sec" {
  description = "How often the jobs run, in whole minutes told in seconds."
  type = object({
    sync              = optional(number, 600)
    cleanup           = optional(number, 300)
    auto_expire       = optional(number, 300)
    auto_delete_stale = optional(number, 86400)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for sec in values(var.job_intervals_sec) : sec >= 60 && sec <= 86400 && sec % 60 == 0])
    error_message = "Every interval has to be a multiple of 60 from 60 to 86400."
  }
}

# Table

variable "table_name" {
  description = "The DynamoDB table."
  type        = string
  default     = "SandboxPool"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name has to be 3 to 255 letters, digits, underscores, hyphens and dots."
  }
}

variable "create_table" {
  description = "Whether the table belongs to this deployment. If not, it has to be there, with its key and its three indexes."
  type        = bool
  default     = true
}

# Observability

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days has to be a number of days that CloudWatch Logs offers."
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
  description = "Who is told of alarms. Each has to confirm the mail from SNS."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", address))])
    error_message = "alarm_emails has to be mail addresses."
  }
}

variable "alarm_thresholds" {
  description = "pool_available: alarm below so many free sandboxes. errors_5xx: above so many 5xx answers in five minutes. allocate_p99_ms: above this latency of allocations, in milliseconds."
  type = object({
    pool_available  = optional(number, 20)
    errors_5xx      = optional(number, 10)
    allocate_p99_ms = optional(number, 1000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for threshold in values(var.alarm_thresholds) : threshold >= 0])
    error_message = "Thresholds cannot be negative."
  }
}

variable "tracing_enabled" {
  description = "Whether a collector beside the broker sends its traces to X-Ray."
  type        = bool
  default     = false
}

variable "collector_image" {
  description = "The AWS Distro for OpenTelemetry collector."
  type        = string
  default     = "public.ecr.aws/aws-observability/aws-otel-collector:v0.49.0"

  validation {
    condition     = can(regex(":v[0-9]|@sha256:", var.collector_image))
    error_message = "collector_image has to name a version or a digest."
  }
}
