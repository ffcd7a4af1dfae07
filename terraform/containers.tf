# Container definitions of all tasks.

locals {
  container_name    = "sandbox-broker"
  log_stream_prefix = "ecs"

  environment = merge(
    var.extra_environment,
    {
      AWS_REGION               = var.region
      STORE                    = "dynamodb"
      DDB_TABLE_NAME           = local.table_names.pool
      DDB_COMPANION_TABLE_NAME = local.table_names.companion
      CSP_MODE                 = "live"
      HOST                     = "0.0.0.0"
      PORT                     = tostring(var.container_port)
      KEEP_ALIVE_SEC           = tostring(local.broker_keep_alive)
      SHUTDOWN_DELAY_SEC       = tostring(local.shutdown_delay_sec)
      SHUTDOWN_TIMEOUT_SEC     = tostring(local.shutdown_sec)
      # The load balancer is the only proxy between clients and the broker.
      TRUSTED_PROXY_HOPS = "1"
      LOG_FORMAT         = "json"
      LOG_LEVEL          = var.log_level
      NIOSXAAS_ENABLED   = tostring(var.niosxaas_enabled)
      # The worker or the scheduled tasks run the jobs, not the tasks that serve requests.
      RUN_JOBS                       = "false"
      SYNC_INTERVAL_SEC              = tostring(var.job_intervals_sec.sync)
      CLEANUP_INTERVAL_SEC           = tostring(var.job_intervals_sec.cleanup)
      AUTO_EXPIRY_INTERVAL_SEC       = tostring(var.job_intervals_sec.auto_expire)
      AUTO_DELETE_STALE_INTERVAL_SEC = tostring(var.job_intervals_sec.auto_delete_stale)
      # The broker reads these secrets itself, so a rotation needs no new tasks.
      SECRETS_REFRESH_SEC = tostring(var.secrets_refresh_sec)
      SECRETS_OVERLAP_SEC = tostring(var.secrets_overlap_sec)
    },
    # A mode that is off is the broker's default.
    !local.checks_accounts ? {} : {
      CHECK_MODE         = var.check_mode
      CHECK_INTERVAL_SEC = tostring(var.job_intervals_sec.check)
    },
    var.refill_mode == "off" ? {} : {
      REFILL_MODE         = var.refill_mode
      REFILL_INTERVAL_SEC = tostring(var.job_intervals_sec.refill)
    },
    { for variable in local.secrets_in_use : variable => aws_secretsmanager_secret.broker[variable].arn },
    var.metrics_port == null ? {} : { METRICS_PORT = tostring(var.metrics_port) },
  )

  # Tasks with a collector beside the broker. A scheduled job would pull its image, 100 MB, through the NAT gateway in
  # each of several hundred runs a day, to trace a minute of work.
  traced_tasks = setsubtract(var.tracing_enabled ? ["broker", "jobs"] : [], local.is_scheduler ? ["jobs"] : [])

  log_configuration = {
    for key in setintersection(["broker", "jobs", "collector"], keys(local.log_groups)) : key => {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.main[key].name
        "awslogs-region"        = var.region
        "awslogs-stream-prefix" = local.log_stream_prefix
        # A slow CloudWatch must not block the broker: events beyond this buffer are dropped.
        "mode"            = "non-blocking"
        "max-buffer-size" = "25m"
      }
    }
  }

  # Settings shared by the containers of the broker and of the jobs.
  containers = {
    for task in ["broker", "jobs"] : task => {
      name       = local.container_name
      image      = "${aws_ecr_repository.broker.repository_url}:${var.image_tag}"
      essential  = true
      entryPoint = ["/sandbox-broker"]
      environment = [
        for name, value in merge(
          local.environment,
          # Jobs serve no requests.
          task == "broker" ? local.sign_on_environment : {},
          contains(local.traced_tasks, task) ? { OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:4318" } : {},
        ) : { name = name, value = value }
      ]
      user                   = var.container_user
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      logConfiguration       = local.log_configuration[task]
      # Explicit, because a class of 1,000 students opens 1,000 connections within seconds.
      ulimits     = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
      stopTimeout = local.stop_timeout_sec
    }
  }

  broker_container = merge(local.containers.broker, {
    command = ["serve"]
    portMappings = [
      for port in compact([var.container_port, var.metrics_port]) : { containerPort = tonumber(port), protocol = "tcp" }
    ]
    # Requests /healthz on the loopback address. It does not check the database, since restarting the task would not
    # repair that.
    healthCheck = {
      command     = ["CMD", "/sandbox-broker", "healthcheck"]
      interval    = 10
      timeout     = 5
      retries     = 3
      startPeriod = 60
    }
  })

  # Serves no requests, so it has no health check. ECS restarts a worker that exits.
  job_container = merge(local.containers.jobs, { command = local.is_scheduler ? ["job", "sync"] : ["worker"] })

  # By task; empty for a task that is not traced.
  collector_containers = {
    for task in ["broker", "jobs"] :
    task => [for collector in local.collectors : collector if contains(local.traced_tasks, task)]
  }
  collectors = var.tracing_enabled ? [{
    name  = "collector"
    image = var.collector_image
    # The broker works without the collector.
    essential              = false
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    logConfiguration       = local.log_configuration["collector"]
    environment = [{
      name = "AOT_CONFIG_CONTENT"
      value = yamlencode({
        receivers  = { otlp = { protocols = { http = { endpoint = "127.0.0.1:4318" } } } }
        processors = { batch = {} }
        exporters  = { awsxray = { region = var.region } }
        service = {
          pipelines = { traces = { receivers = ["otlp"], processors = ["batch"], exporters = ["awsxray"] } }
        }
      })
    }]
  }] : []
}
