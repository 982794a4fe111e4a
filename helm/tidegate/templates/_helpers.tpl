{{/* Names, labels, and numbers out of what people write. */}}

{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* 52 characters: a pod's label has the StatefulSet's name and ten more of its revision, and at most 63. */}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tidegate.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidegate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What never changes between releases of the chart: selectors cannot. */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tidegate
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata: (dict "root" $ "name" "…" "component" "…" "annotations" dict "labels" dict) */}}
{{- define "tidegate.metadata" -}}
{{- $annotations := merge (dict) (default dict .annotations) .root.Values.commonAnnotations -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "tidegate.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tidegate.image" -}}
{{- $image := .Values.image -}}
{{- $name := ternary (printf "%s/%s" $image.registry $image.repository) $image.repository (ne $image.registry "") -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* A duration of the node file in seconds, rounded up. */}}
{{- define "tidegate.seconds" -}}
{{- $count := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" -}}{{- div (add $count 999) 1000 -}}
{{- else if eq $unit "m" -}}{{- mul $count 60 -}}
{{- else if eq $unit "h" -}}{{- mul $count 3600 -}}
{{- else if eq $unit "d" -}}{{- mul $count 86400 -}}
{{- else -}}{{- $count -}}
{{- end -}}
{{- end -}}

{{/* A size in whole bytes, whether it is the node file's (`512MiB`) or Kubernetes' (`1.5Gi`, `512M`). */}}
{{- define "tidegate.bytes" -}}
{{- $text := toString . -}}
{{- $count := regexFind "^[0-9]+(\\.[0-9]+)?" $text | float64 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text | trimSuffix "B" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf $count (get $units $unit) | int64 -}}
{{- end -}}

{{- define "tidegate.drainSeconds" -}}
{{- include "tidegate.seconds" (default "25s" .Values.config.drain_deadline) -}}
{{- end -}}

{{/* How long a stopping node waits before it hears of it. */}}
{{- define "tidegate.preStopSeconds" -}}
{{- ternary (int64 .Values.api.drainSeconds) 0 .Values.api.enabled -}}
{{- end -}}

{{/* After the drain a node ends what it answers, sends the audit and its last spans. */}}
{{- define "tidegate.graceSeconds" -}}
{{- $least := add (include "tidegate.drainSeconds" .) (include "tidegate.preStopSeconds" .) -}}
{{- default (add $least 20) .Values.terminationGracePeriodSeconds -}}
{{- end -}}

{{- define "tidegate.isSqlite" -}}
{{- $warehouse := default dict .Values.config.warehouse -}}
{{- if hasPrefix "sqlite:" (default "" $warehouse.url) -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.isPostgres" -}}
{{- $warehouse := default dict .Values.config.warehouse -}}
{{- if and $warehouse.url (not (include "tidegate.isSqlite" .)) -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.hasLocalLake" -}}
{{- $lake := default dict .Values.config.lake -}}
{{- if and $lake.url (not (hasPrefix "s3://" $lake.url)) -}}true{{- end -}}
{{- end -}}

{{/* The data itself is on the node's volume: there can be one node. */}}
{{- define "tidegate.isLocal" -}}
{{- if or (include "tidegate.hasLocalLake" .) (include "tidegate.isSqlite" .) -}}true{{- end -}}
{{- end -}}

{{- define "tidegate.isScaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled -}}true{{- end -}}
{{- end -}}

{{/* host:port of an address, the port of its scheme if it names none. */}}
{{- define "tidegate.portOf" -}}
{{- $url := urlParse . -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) -}}
{{- if $port -}}{{- $port -}}
{{- else -}}{{- get (dict "http" "80" "https" "443" "postgres" "5432" "postgresql" "5432") $url.scheme -}}
{{- end -}}
{{- end -}}

{{/* What somebody scaled to stays, for as long as the values say what they said: an upgrade is no reason to undo it, and
server-side apply would refuse to. Where nothing is looked up, the values count. */}}
{{- define "tidegate.replicas" -}}
{{- $live := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "tidegate.fullname" .) -}}
{{- if and $live (eq (dig "metadata" "annotations" "tidegate/replicas" "" $live) (toString .Values.replicas)) -}}
{{ int $live.spec.replicas }}
{{- else -}}
{{ .Values.replicas }}
{{- end -}}
{{- end -}}
