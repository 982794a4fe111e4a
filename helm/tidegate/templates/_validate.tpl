{{/* What no schema can say: values that are good each by itself, and cannot work together. All faults at once. */}}

{{- define "tidegate.validate" -}}
{{- $faults := list -}}
{{- $values := .Values -}}
{{- $config := .Values.config -}}
{{- $warehouse := default dict $config.warehouse -}}
{{- $lake := default dict $config.lake -}}

{{- if and (not $lake) (not $warehouse) -}}
{{- $faults = append $faults "config: neither a `lake` nor a `warehouse`: there is nowhere to carry records to" -}}
{{- end -}}
{{- if and (eq $values.mode "lake") (not $lake) -}}
{{- $faults = append $faults "mode: `lake`, and there is no `config.lake`" -}}
{{- end -}}
{{- if and (eq $values.mode "warehouse") (not $warehouse) -}}
{{- $faults = append $faults "mode: `warehouse`, and there is no `config.warehouse`" -}}
{{- end -}}

{{- /* One node's disk. */ -}}
{{- if include "tidegate.isLocal" . -}}
{{- $what := ternary "a lake in a folder (config.lake.url)" "SQLite (config.warehouse.url)" (ne (include "tidegate.hasLocalLake" .) "") -}}
{{- if or (include "tidegate.isScaled" .) (gt (int $values.replicas) 1) -}}
{{- $faults = append $faults (printf "replicas: %s is on one node's own volume, so there can be one node only: set `replicas: 1` and no autoscaler, or use s3:// and postgres://" $what) -}}
{{- end -}}
{{- if not $values.persistence.enabled -}}
{{- $faults = append $faults (printf "persistence.enabled: false, and %s would be gone with the pod" $what) -}}
{{- end -}}
{{- range list (list "config.lake.url" (ternary $lake.url "" (ne (include "tidegate.hasLocalLake" .) ""))) (list "config.warehouse.url" (ternary (trimPrefix "sqlite:" (default "" $warehouse.url)) "" (ne (include "tidegate.isSqlite" .) ""))) -}}
{{- $path := index . 1 -}}
{{- if and $path (or (not (hasPrefix "/var/lib/tidegate/" $path)) (contains ".." $path)) -}}
{{- $faults = append $faults (printf "%s: `%s` is not on the node's volume, which is /var/lib/tidegate: begin the path with /var/lib/tidegate/" (index . 0) $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Scaling. */ -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled -}}
{{- $faults = append $faults "autoscaling.enabled and keda.enabled: two autoscalers would pull in two directions; choose one" -}}
{{- end -}}
{{- if include "tidegate.isScaled" . -}}
{{- $most := int $values.autoscaling.maxReplicas -}}
{{- if gt (int $values.autoscaling.minReplicas) $most -}}
{{- $faults = append $faults (printf "autoscaling.minReplicas: %d, more than maxReplicas, which is %d" (int $values.autoscaling.minReplicas) $most) -}}
{{- end -}}
{{- if eq (int $values.autoscaling.partitions) 0 -}}
{{- $faults = append $faults "autoscaling.partitions: say how many partitions the feeds' topics have together: nodes beyond that would have nothing to do" -}}
{{- else if gt $most (int $values.autoscaling.partitions) -}}
{{- $faults = append $faults (printf "autoscaling.maxReplicas: %d, and there are %d partitions: nodes beyond that would have nothing to do" $most (int $values.autoscaling.partitions)) -}}
{{- end -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (not (dig "requests" "cpu" "" $values.resources)) -}}
{{- $faults = append $faults "resources.requests.cpu: needed by `autoscaling`, which counts in shares of it" -}}
{{- end -}}
{{- if and $values.keda.enabled (not $values.keda.serverAddress) -}}
{{- $faults = append $faults "keda.serverAddress: say where Prometheus answers" -}}
{{- end -}}

{{- /* Time and memory. */ -}}
{{- $least := add (include "tidegate.drainSeconds" .) (include "tidegate.preStopSeconds" .) 15 | int -}}
{{- if lt (include "tidegate.graceSeconds" . | int) $least -}}
{{- $faults = append $faults (printf "terminationGracePeriodSeconds: %v, and a node needs up to %d: `config.drain_deadline`, `api.drainSeconds` with the API, and 15 seconds for the last words" $values.terminationGracePeriodSeconds $least) -}}
{{- end -}}
{{- $budget := default "512MiB" (dig "memory" "budget" "" $config) -}}
{{- with dig "limits" "memory" "" $values.resources -}}
{{- if le (include "tidegate.bytes" . | int64) (include "tidegate.bytes" $budget | int64) -}}
{{- $faults = append $faults (printf "resources.limits.memory: %v, no more than `config.memory.budget`, which is %v: the node would be killed before its budget counts" . $budget) -}}
{{- end -}}
{{- end -}}

{{- /* The API. */ -}}
{{- if and $values.api.enabled (not $warehouse) -}}
{{- $faults = append $faults "api.enabled: the API needs a `config.warehouse`, where the permission rows are" -}}
{{- end -}}
{{- if and $config.api (not $values.api.enabled) -}}
{{- $faults = append $faults "config.api: says how the API is, and `api.enabled` is false" -}}
{{- end -}}
{{- if and $values.api.ingress.enabled (not $values.api.enabled) -}}
{{- $faults = append $faults "api.ingress.enabled: without `api.enabled` there is nothing to lead to" -}}
{{- end -}}
{{- if and $values.api.ingress.enabled (not $values.api.ingress.hosts) -}}
{{- $faults = append $faults "api.ingress.hosts: name at least one" -}}
{{- end -}}
{{- if eq (int $values.api.port) (int $values.telemetry.port) -}}
{{- $faults = append $faults "api.port: the same as telemetry.port" -}}
{{- end -}}

{{- /* Credentials. */ -}}
{{- $sections := dict "kafka" "kafka" "warehouse" "warehouse" "lake" "lake" "registry" "schema_registry" "api" "api" "oidc" "api" -}}
{{- range $word, $secret := $values.secrets -}}
{{- $keys := ternary $secret.create $secret.keys (gt (len $secret.create) 0) -}}
{{- if and $secret.existingSecret $secret.create -}}
{{- $faults = append $faults (printf "secrets.%s: `existingSecret` and `create`: name one that is there, or have one made" $word) -}}
{{- else if and $secret.existingSecret (not $secret.keys) -}}
{{- $faults = append $faults (printf "secrets.%s.keys: say which key of %s is what" $word $secret.existingSecret) -}}
{{- else if and $secret.keys (not $secret.existingSecret) -}}
{{- $faults = append $faults (printf "secrets.%s.existingSecret: say which Secret has the keys" $word) -}}
{{- end -}}
{{- if $keys -}}
{{- $section := get $sections $word -}}
{{- $at := default dict (get $config $section) -}}
{{- if and (ne $word "api") (ne $word "oidc") (not $at) -}}
{{- $faults = append $faults (printf "secrets.%s: there is no `config.%s` to use it" $word $section) -}}
{{- end -}}
{{- if and (eq $word "api") (not $values.api.enabled) -}}
{{- $faults = append $faults "secrets.api: `api.enabled` is false" -}}
{{- end -}}
{{- if and (eq $word "oidc") (not $at.oidc) -}}
{{- $faults = append $faults "secrets.oidc: there is no `config.api.oidc` to use it" -}}
{{- end -}}
{{- if and (eq $word "kafka") (hasKey $keys "password") (not $at.sasl) -}}
{{- $faults = append $faults "secrets.kafka: a password, and `config.kafka.sasl` does not say whose: {mechanism, username}" -}}
{{- end -}}
{{- if and (eq $word "registry") (hasKey $keys "password") (not $at.username) -}}
{{- $faults = append $faults "secrets.registry: a password, and `config.schema_registry.username` does not say whose" -}}
{{- end -}}
{{- range $pair := list (list "kafka" "certificate" "key") (list "lake" "access_key" "secret_key") (list "api" "certificate" "key") -}}
{{- if and (eq $word (index $pair 0)) (ne (hasKey $keys (index $pair 1)) (hasKey $keys (index $pair 2))) -}}
{{- $faults = append $faults (printf "secrets.%s: `%s` and `%s` go together" $word (index $pair 1) (index $pair 2)) -}}
{{- end -}}
{{- end -}}
{{- $inners := dict "kafka" (dict "password" "sasl" "ca" "tls" "certificate" "tls" "key" "tls") "warehouse" (dict "password" "" "ca" "tls") "lake" (dict "access_key" "s3" "secret_key" "s3") "registry" (dict "password" "" "token" "" "ca" "") "api" (dict "certificate" "tls" "key" "tls") "oidc" (dict "ca" "oidc") -}}
{{- range $field, $_ := $keys -}}
{{- $inner := get (get $inners $word) $field -}}
{{- $holder := $at -}}
{{- if $inner }}{{ $holder = default dict (get $at $inner) }}{{ end -}}
{{- if hasKey $holder $field -}}
{{- $faults = append $faults (printf "secrets.%s: `%s` is said in `config.%s`, too: leave it out there" $word $field $section) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $config.kafka.sasl (not (hasKey $config.kafka.sasl "password")) (not (or (hasKey $values.secrets.kafka.keys "password") (hasKey $values.secrets.kafka.create "password"))) -}}
{{- $faults = append $faults "config.kafka.sasl: whose password is in no Secret: `secrets.kafka` with a key for `password`" -}}
{{- end -}}

{{- $tls := default dict $warehouse.tls -}}
{{- if and (eq (default "" $tls.mode) "verify-full") (not $tls.ca) (not (or (hasKey $values.secrets.warehouse.keys "ca") (hasKey $values.secrets.warehouse.create "ca"))) -}}
{{- $faults = append $faults "config.warehouse.tls.mode: `verify-full`, and no authority: `secrets.warehouse` with a key for `ca`" -}}
{{- end -}}

{{- /* What differs from node to node cannot stand in the one node file. */ -}}
{{- range $name, $instead := dict "client.rack" "rack.enabled" "group.instance.id" "membership.static" -}}
{{- if hasKey (default dict $config.kafka.settings) $name -}}
{{- if or (eq $name "group.instance.id") (get $values.rack "enabled") -}}
{{- $faults = append $faults (printf "config.kafka.settings: `%s` would be the same for every node; use `%s`" $name $instead) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and $values.serviceMonitor.enabled $values.podMonitor.enabled -}}
{{- $faults = append $faults "serviceMonitor and podMonitor: the nodes would be counted twice; choose one" -}}
{{- end -}}
{{- if and $values.test.enabled (hasKey $values.feeds $values.test.feed) -}}
{{- $faults = append $faults (printf "feeds.%s: the name of the test's feed; give that another (`test.feed`)" $values.test.feed) -}}
{{- end -}}

{{- if $faults -}}
{{- fail (printf "\n\n%s\n" (join "\n" (uniq $faults | sortAlpha))) -}}
{{- end -}}
{{- end -}}
