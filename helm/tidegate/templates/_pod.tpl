{{/* What the pods of the nodes, of the migration and of the test have in common. */}}

{{- define "tidegate.podCommon" -}}
serviceAccountName: {{ include "tidegate.serviceAccount" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
{{- /* A Service named tidegate would put TIDEGATE_PORT and the like among the variables. */}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tidegate.container" -}}
image: {{ include "tidegate.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [tidegate]
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{/* (dict "root" $ "container" "node") */}}
{{- define "tidegate.env" -}}
{{- $root := .root -}}
- name: TIDEGATE_CONFIG
  value: {{ include "tidegate.nodeFolder" $root }}/tidegate.yaml
{{- with $root.Values.log.level }}
- name: TIDEGATE_LOG
  value: {{ . | quote }}
{{- end }}
{{- range $name, $path := dict "POD_NAME" "metadata.name" "POD_UID" "metadata.uid" "POD_NAMESPACE" "metadata.namespace" "NODE_NAME" "spec.nodeName" }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
- name: CONTAINER_NAME
  value: {{ .container }}
{{- if $root.Values.rack.enabled }}
{{- /* The node's zone is nowhere in the downward API; a label of the pod is. Without it this is empty, and no rack. */}}
- name: TIDEGATE_RACK
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['{{ $root.Values.rack.label }}']
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Without feeds, for what asks nothing of them: a feed file with a fault holds up no migration. */}}
{{- define "tidegate.mountsWithoutFeeds" -}}
- name: config
  mountPath: {{ include "tidegate.nodeFolder" . }}
  readOnly: true
- name: tmp
  mountPath: /tmp
- name: tmp
  mountPath: {{ include "tidegate.feedsFolder" . }}
  subPath: no-feeds
{{- range $word, $secret := include "tidegate.secrets" . | fromJson }}
- name: secret-{{ $word }}
  mountPath: {{ include "tidegate.secretsFolder" $ }}/{{ $word }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidegate.mounts" -}}
- name: config
  mountPath: {{ include "tidegate.nodeFolder" . }}
  readOnly: true
- name: feeds
  mountPath: {{ include "tidegate.feedsFolder" . }}
  readOnly: true
- name: volume
  mountPath: {{ include "tidegate.data" . }}
- name: tmp
  mountPath: /tmp
{{- range $word, $secret := include "tidegate.secrets" . | fromJson }}
- name: secret-{{ $word }}
  mountPath: {{ include "tidegate.secretsFolder" $ }}/{{ $word }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidegate.volumesWithoutFeeds" -}}
- name: config
  configMap:
    name: {{ include "tidegate.fullname" . }}-config
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmpSizeLimit }}
{{- range $word, $secret := include "tidegate.secrets" . | fromJson }}
- name: secret-{{ $word }}
  secret:
    secretName: {{ $secret.name }}
    {{- /* Read by the group, which is fsGroup. */}}
    defaultMode: 0440
    items:
      {{- range $path, $key := $secret.items }}
      - key: {{ $key | quote }}
        path: {{ $path }}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidegate.volumes" -}}
{{ include "tidegate.volumesWithoutFeeds" . }}
- name: feeds
  projected:
    {{- if or (include "tidegate.hasOwnFeeds" .) .Values.existingFeeds }}
    sources:
      {{- if include "tidegate.hasOwnFeeds" . }}
      - configMap:
          name: {{ include "tidegate.fullname" . }}-feeds
      {{- end }}
      {{- range .Values.existingFeeds }}
      - configMap:
          name: {{ . }}
      {{- end }}
    {{- else }}
    sources: []
    {{- end }}
{{- end -}}

{{- define "tidegate.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{ toYaml .settings }}
{{- end -}}

{{/* Of the Job that migrates. */}}
{{- define "tidegate.migratePod" -}}
metadata:
  labels:
    {{- include "tidegate.selector" . | nindent 4 }}
    app.kubernetes.io/component: migrate
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "tidegate.podCommon" . | nindent 2 }}
  restartPolicy: OnFailure
  containers:
    - name: migrate
      {{- include "tidegate.container" . | nindent 6 }}
      args: [migrate{{ with .Values.migrations.admin }}, --admin, {{ . | quote }}{{ end }}, --log-format, {{ .Values.log.format }}]
      env:
        {{- include "tidegate.env" (dict "root" . "container" "migrate") | nindent 8 }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml .Values.migrations.resources | nindent 8 }}
      volumeMounts:
        {{- include "tidegate.mountsWithoutFeeds" . | nindent 8 }}
  volumes:
    {{- include "tidegate.volumesWithoutFeeds" . | nindent 4 }}
{{- end -}}
