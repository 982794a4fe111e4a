{{/* The node file, and the Secrets that it names. */}}

{{/* Where what lies. */}}
{{- define "tidegate.nodeFolder" -}}/etc/tidegate/node{{- end -}}
{{- define "tidegate.feedsFolder" -}}/etc/tidegate/feeds{{- end -}}
{{- define "tidegate.secretsFolder" -}}/etc/tidegate/secrets{{- end -}}
{{- define "tidegate.data" -}}/var/lib/tidegate{{- end -}}

{{/* The Secrets that are used: a mapping of their words to {name, items}. */}}
{{- define "tidegate.secrets" -}}
{{- $root := . -}}
{{- $used := dict -}}
{{- range $word, $secret := .Values.secrets -}}
{{- $items := dict -}}
{{- $name := $secret.existingSecret -}}
{{- if $secret.create -}}
{{- $name = printf "%s-%s" (include "tidegate.fullname" $root) $word -}}
{{- range $key, $value := $secret.create }}{{ $_ := set $items $key $key }}{{ end -}}
{{- else if $secret.existingSecret -}}
{{- range $key, $value := $secret.keys }}{{ $_ := set $items $key $value }}{{ end -}}
{{- end -}}
{{- if $name }}{{ $_ := set $used $word (dict "name" $name "items" $items) }}{{ end -}}
{{- end -}}
{{- toJson $used -}}
{{- end -}}

{{/* The node file as people wrote it, with what the chart says. */}}
{{- define "tidegate.nodeFile" -}}
{{- include "tidegate.validate" . -}}
{{- $values := .Values -}}
{{- $node := deepCopy $values.config -}}
{{- $folder := include "tidegate.secretsFolder" . -}}
{{- $secrets := include "tidegate.secrets" . | fromJson -}}
{{- $credentials := list (list "kafka" "kafka" "sasl" "password") (list "warehouse" "warehouse" "" "password") (list "lake" "lake" "s3" "access_key") (list "lake" "lake" "s3" "secret_key") (list "registry" "schema_registry" "" "password") (list "registry" "schema_registry" "" "token") -}}
{{- $files := list (list "kafka" "kafka" "tls" "ca") (list "kafka" "kafka" "tls" "certificate") (list "kafka" "kafka" "tls" "key") (list "warehouse" "warehouse" "tls" "ca") (list "registry" "schema_registry" "" "ca") (list "api" "api" "tls" "certificate") (list "api" "api" "tls" "key") (list "oidc" "api" "oidc" "ca") -}}
{{- if $values.api.enabled -}}
{{- $api := default dict $node.api -}}
{{- $_ := set $api "listen" (printf "%s:%v" $values.listenAddress $values.api.port) -}}
{{- $_ := set $node "api" $api -}}
{{- end -}}
{{- range concat $credentials $files -}}
{{- $word := index . 0 }}{{ $section := index . 1 }}{{ $inner := index . 2 }}{{ $field := index . 3 -}}
{{- if hasKey (dig $word "items" dict $secrets) $field -}}
{{- $at := get $node $section -}}
{{- if $inner -}}
{{- if not (get $at $inner) }}{{ $_ := set $at $inner dict }}{{ end -}}
{{- $at = get $at $inner -}}
{{- end -}}
{{- $path := printf "%s/%s/%s" $folder $word $field -}}
{{- if has . $credentials -}}
{{- $_ := set $at $field (dict "file" $path) -}}
{{- else -}}
{{- $_ := set $at $field $path -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $settings := default dict $node.kafka.settings -}}
{{- if $values.rack.enabled }}{{ $_ := set $settings "client.rack" (dict "env" "TIDEGATE_RACK") }}{{ end -}}
{{- if $values.membership.static }}{{ $_ := set $settings "group.instance.id" (dict "env" "POD_NAME") }}{{ end -}}
{{- if $settings }}{{ $_ := set $node.kafka "settings" $settings }}{{ end -}}
{{- $telemetry := default dict $node.telemetry -}}
{{- $_ := set $telemetry "listen" (printf "%s:%v" $values.listenAddress $values.telemetry.port) -}}
{{- $_ := set $node "telemetry" $telemetry -}}
{{- $_ := set $node "feeds" (include "tidegate.feedsFolder" .) -}}
{{- $_ := set $node "volume" (printf "%s/node" (include "tidegate.data" .)) -}}
{{- toYaml $node -}}
{{- end -}}

{{/* Of the test: a stream of a topic of its own, kept for a week by the time of the record in Kafka, since generated
     events are of a fixed past. */}}
{{- define "tidegate.probeFeed" -}}
{{- $warehouse := default dict .Values.config.warehouse -}}
feed: {{ .Values.test.feed }}
type: stream
description: What `helm test` produces and looks for.
topic: {{ .Values.test.topicPrefix }}transaction_log
columns:
  - {name: transaction_id, type: string, path: TRANSACTION_ID, required: true}
retention_days: 7
{{- if eq .Values.mode "warehouse" }}
lake: null
{{- end }}
{{- if eq .Values.mode "lake" }}
warehouse: null
{{- else if and $warehouse.url (not $warehouse.only_bookkeeping) }}
warehouse: {retention_days: 7}
{{- end }}
{{- end -}}

{{- define "tidegate.hasOwnFeeds" -}}
{{- if or .Values.feeds .Values.test.enabled -}}true{{- end -}}
{{- end -}}
