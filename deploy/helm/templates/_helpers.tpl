{{/* Short enough for the names that KubeRay and Kubernetes make of it. */}}
{{- define "ropewalk.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "ropewalk" $name) }}{{ $name = printf "%s-ropewalk" $name }}{{ end -}}
{{- if gt (len $name) 32 }}{{ fail (printf "the release's name must have at most 32 characters with -ropewalk behind it, but got %s" $name) }}{{ end -}}
{{- $name -}}
{{- end }}

{{- define "ropewalk.labels" -}}
app.kubernetes.io/name: ropewalk
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Of the pods of one part: (list . "api"). These never change, for a Deployment's selector may not. */}}
{{- define "ropewalk.selector" -}}
app.kubernetes.io/name: ropewalk
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* (list . "server") */}}
{{- define "ropewalk.image" -}}
{{- $image := (index . 0).Values.image -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end -}}
ropewalk/{{ index . 1 }}:{{ default (index . 0).Chart.AppVersion $image.tag }}
{{- end }}

{{/* No pod asks Kubernetes anything. Service links would set ROPEWALK_PORT to the address of a Service of this name. */}}
{{- define "ropewalk.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.artifacts.serviceAccount }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  fsGroup: 1000
  # Without this, every file of a large volume is visited at every start.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
volumes:
  - name: home
    persistentVolumeClaim:
      claimName: {{ default (printf "%s-home" (include "ropewalk.name" .)) .Values.home.existingClaim }}
  {{- with .Values.models.existingClaim }}
  - name: models
    persistentVolumeClaim:
      claimName: {{ . }}
      readOnly: true
  {{- end }}
{{- end }}

{{- define "ropewalk.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.artifacts.secret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: home
    mountPath: /var/lib/ropewalk
  {{- if .Values.models.existingClaim }}
  - name: models
    mountPath: /models
    readOnly: true
  {{- end }}
{{- end }}

{{/* The Secret of the database's URL: of the user of the service. */}}
{{- define "ropewalk.database" -}}
{{- if .Values.database.cloudnativepg.enabled -}}
name: {{ include "ropewalk.name" . }}-db-app
key: uri
{{- else -}}
{{- toYaml .Values.database.secret -}}
{{- end -}}
{{- end }}

{{/* Of the owner of the tables. */}}
{{- define "ropewalk.owner" -}}
{{- if .Values.database.ownerSecret.name -}}
{{- toYaml .Values.database.ownerSecret -}}
{{- else -}}
{{- include "ropewalk.database" . -}}
{{- end -}}
{{- end }}

{{- define "ropewalk.rayToken" -}}
- name: RAY_AUTH_MODE
  value: token
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef:
      {{- toYaml .Values.ray.authSecret | nindent 6 }}
{{- end }}

{{/* Of Ray's agent: the node is alive, and on the head the cluster. KubeRay's own may call wget, which the images do not have. */}}
{{- define "ropewalk.rayProbes" -}}
readinessProbe:
  httpGet: {path: /api/healthz, port: 52365}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /api/healthz, port: 52365}
  initialDelaySeconds: 60
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 12
{{- end }}

{{/* As peers of a NetworkPolicy. */}}
{{- define "ropewalk.rayPods" -}}
- podSelector:
    matchLabels:
      {{- include "ropewalk.selector" (list . "ray-head") | nindent 6 }}
- podSelector:
    matchLabels:
      {{- include "ropewalk.selector" (list . "ray-worker") | nindent 6 }}
{{- end }}

{{/* What the API and controllers are told. */}}
{{- define "ropewalk.environment" -}}
- name: ROPEWALK_HOME
  value: /var/lib/ropewalk
- name: ROPEWALK_DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- include "ropewalk.database" . | nindent 6 }}
- name: ROPEWALK_ROOTS
  value: /models
- name: RAY_ADDRESS
  value: {{ .Values.ray.enabled | ternary (printf "ray://%s-ray-head-svc:10001" (include "ropewalk.name" .)) .Values.ray.address }}
{{- with .Values.artifacts.url }}
- name: ROPEWALK_ARTIFACTS
  value: {{ . }}
{{- end }}
{{- with .Values.artifacts.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . }}
{{- end }}
{{ include "ropewalk.rayToken" . }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Makes and upgrades the tables, from any number of pods at once; waits, by failing, for a database that is not there yet. */}}
{{- define "ropewalk.migrate" -}}
- name: migrate
  image: {{ include "ropewalk.image" (list . "server") }}
  args: [db, upgrade]
  env:
    - name: ROPEWALK_HOME
      value: /var/lib/ropewalk
    - name: ROPEWALK_DATABASE_URL
      valueFrom:
        secretKeyRef:
          {{- include "ropewalk.owner" . | nindent 10 }}
  resources:
    requests: {cpu: 100m, memory: 512Mi}
    limits: {memory: 2Gi}
  {{- include "ropewalk.container" . | nindent 2 }}
{{- end }}

{{/* What a worker of a pool has, and is kept to. */}}
{{- define "ropewalk.room" -}}
cpu: {{ .cpus }}
memory: {{ .memory }}
{{- with .gpus }}
nvidia.com/gpu: {{ . }}
{{- end }}
{{- end }}

{{/* Of a URL: what it says, or its scheme's. */}}
{{- define "ropewalk.port" -}}
{{- $url := urlParse . -}}
{{- $said := regexFind ":[0-9]+$" $url.host -}}
{{- if $said }}{{ trimPrefix ":" $said }}{{ else }}{{ ternary 80 443 (eq $url.scheme "http") }}{{ end -}}
{{- end }}
