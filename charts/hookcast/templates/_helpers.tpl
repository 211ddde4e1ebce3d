{{/* Every object's name begins with this. Never cut: others rely on the exact names. */}}
{{- define "hookcast.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{- define "hookcast.keysSecret" -}}
{{- .Values.existingSecret | default (printf "%s-keys" (include "hookcast.fullname" .)) -}}
{{- end -}}

{{- define "hookcast.isSidecar" -}}
{{- if eq .Values.redis.mode "sidecar" }}true{{ end -}}
{{- end -}}

{{/* Whether the dispatcher has pods of its own. */}}
{{- define "hookcast.isSeparate" -}}
{{- if and (eq .Values.redis.mode "external") .Values.dispatcher.separate }}true{{ end -}}
{{- end -}}

{{/* What finds pods; never anything that changes with the chart's version. (list root component) */}}
{{- define "hookcast.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: hookcast
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{/* What finds every pod that has an admin port for the operator: app and dispatcher. */}}
{{- define "hookcast.adminSelector" -}}
app.kubernetes.io/name: hookcast
app.kubernetes.io/instance: {{ .Release.Name | quote }}
hookcast.dev/takes-configuration: "true"
{{- end -}}

{{/* The metadata of an object without its name: (list root component), then annotations and labels of its own. What finds
     pods cannot be given otherwise (checks.yaml); every other label can. */}}
{{- define "hookcast.metadata" -}}
{{- $root := first . -}}
{{- $own := concat . (list dict dict) -}}
{{- with mergeOverwrite (dict) $root.Values.annotations (index $own 2) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- $standard := dict
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/part-of" "hookcast"
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_")
-}}
labels:
  {{- mergeOverwrite $standard $root.Values.labels (index $own 3) (include "hookcast.selector" (list $root (index . 1)) | fromYaml) | toYaml | nindent 2 }}
{{- end -}}

{{/* (list root image) */}}
{{- define "hookcast.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- with $root.Values.global.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* A setting as the environment has it: text as it is, whole numbers without exponent, lists by comma, else JSON.
     (list root name value) */}}
{{- define "hookcast.setting" -}}
{{- $known := (first .).Files.Get "files/settings.yaml" | fromYaml -}}
{{- $value := last . -}}
{{- if kindIs "string" $value -}}{{ $value }}
{{- else if kindIs "bool" $value -}}{{ $value }}
{{- else if kindIs "float64" $value -}}{{ if eq (floor $value) $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{- else if or (kindIs "int64" $value) (kindIs "int" $value) -}}{{ int64 $value }}
{{- else if and (kindIs "slice" $value) (has (index . 1) $known.lists) -}}{{ join "," $value }}
{{- else -}}{{ toJson $value }}
{{- end -}}
{{- end -}}

{{/* Where webhooks may go though it is private: what the settings say, and helm test's receiver if there is one. */}}
{{- define "hookcast.egressAllow" -}}
{{- $given := get .Values.settings "EGRESS_ALLOW" -}}
{{- $entries := kindIs "slice" $given | ternary $given (list $given | compact) -}}
{{- if .Values.test.webhook }}{{ $entries = append $entries (include "hookcast.testReceiver" .) }}{{ end -}}
{{- join "," $entries -}}
{{- end -}}

{{- define "hookcast.testReceiver" -}}
{{ include "hookcast.fullname" . }}-test.{{ .Release.Namespace }}.svc:8080
{{- end -}}

{{/* Whether a setting has to be in the environment: the image's has it, or it names a file, which is looked for there
     alone. (list root name) */}}
{{- define "hookcast.isEnvironment" -}}
{{- $known := (first .).Files.Get "files/settings.yaml" | fromYaml -}}
{{- if or (has (last .) $known.environment) (hasSuffix "_FILE" (last .)) }}true{{ end -}}
{{- end -}}

{{/* The settings' ConfigMap data. */}}
{{- define "hookcast.settings" -}}
{{- range $name, $value := omit .Values.settings "EGRESS_ALLOW" }}
{{- if not (or (kindIs "invalid" $value) (include "hookcast.isEnvironment" (list $ $name))) }}
HOOKCAST_{{ $name }}: {{ include "hookcast.setting" (list $ $name $value) | quote }}
{{- end }}
{{- end }}
{{- with include "hookcast.egressAllow" . }}
HOOKCAST_EGRESS_ALLOW: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Seconds from SIGTERM to the end of draining. */}}
{{- define "hookcast.drainSeconds" -}}
{{- $given := dict "DRAIN_DELAY" 5 "DRAIN" 10 -}}
{{- range $name, $value := pick .Values.settings "DRAIN_DELAY" "DRAIN" -}}
{{- if not (kindIs "invalid" $value) }}{{ $given = set $given $name $value }}{{ end -}}
{{- end -}}
{{- $delay := get $given "DRAIN_DELAY" | toString | float64 -}}
{{- $drain := get $given "DRAIN" | toString | float64 -}}
{{- addf $delay $drain .Values.preStopSeconds | ceil | int64 -}}
{{- end -}}

{{/* The grace period: what draining takes, 30 s for the bounded rest, 10 s for a sidecar to write and end. */}}
{{- define "hookcast.graceSeconds" -}}
{{- $rest := empty (include "hookcast.isSidecar" .) | ternary 30 40 -}}
{{- .Values.terminationGracePeriodSeconds | default (add (include "hookcast.drainSeconds" . | int64) $rest) | int64 -}}
{{- end -}}

{{/* A quantity of memory in bytes. */}}
{{- define "hookcast.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "" 1 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- if not (hasKey $units $unit) }}{{ fail (printf "redis.resources: write %q with Ki, Mi, Gi, k, M, G or no unit" $text) }}{{ end -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) | floor | int64 -}}
{{- end -}}

{{- define "hookcast.redisMaxmemory" -}}
{{- divf (mulf (include "hookcast.bytes" .Values.redis.resources.limits.memory | float64) .Values.redis.maxmemoryPercent) 100 | floor | int64 -}}
{{- end -}}

{{- define "hookcast.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "hookcast.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Environment of every process of the app. Settings, keys and a secret URL are read from mounted files: a container
     that takes them from objects cannot be restarted while the API server is away. (list root role) */}}
{{- define "hookcast.environment" -}}
{{- $root := first . -}}
env:
  - name: HOOKCAST_SETTINGS_DIR
    value: /etc/hookcast/settings:/etc/hookcast/keys
  {{- if include "hookcast.isSidecar" $root }}
  - name: HOOKCAST_REDIS_URL
    value: redis://127.0.0.1:6379/0
  {{- else }}
  {{- if $root.Values.redis.existingSecret.name }}
  - name: HOOKCAST_REDIS_URL_FILE
    value: /etc/hookcast/redis-url/url
  {{- else }}
  - name: HOOKCAST_REDIS_URL
    value: {{ include "hookcast.redisUrl" $root | quote }}
  {{- end }}
  - name: HOOKCAST_ROLE
    value: {{ last . }}
  {{- end }}
  {{- if $root.Values.operator.enabled }}
  - name: HOOKCAST_CONFIGURATION_DIR
    value: /etc/hookcast/configuration
  {{- end }}
  {{- range $name, $value := $root.Values.settings }}
  {{- if and (not (kindIs "invalid" $value)) (include "hookcast.isEnvironment" (list $root $name)) }}
  - name: HOOKCAST_{{ $name }}
    value: {{ include "hookcast.setting" (list $root $name $value) | quote }}
  {{- end }}
  {{- end }}
  {{- with $root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* redis.url, with the mounted certificate of its authority. */}}
{{- define "hookcast.redisUrl" -}}
{{- $url := .Values.redis.url -}}
{{- if .Values.redis.caSecret.name -}}
{{- $url }}{{ contains "?" $url | ternary "&" "?" }}ssl_ca_certs=/etc/hookcast/redis/ca.crt
{{- else -}}
{{- $url -}}
{{- end -}}
{{- end -}}

{{/* The operator's Secrets as files: a pod starts with what they hold. All are optional: the first start has none. */}}
{{- define "hookcast.configurationVolume" -}}
{{- $fullname := include "hookcast.fullname" . -}}
- name: configuration
  projected:
    sources:
      - secret:
          name: {{ $fullname }}-configuration
          optional: true
          items:
            {{- range $key := list "set" "sequence" "digest" "revision" }}
            - {key: {{ $key }}, path: manifest/{{ $key }}}
            {{- end }}
      {{- range $set := list "a" "b" }}
      {{- range $index := until 8 }}
      - secret:
          name: {{ $fullname }}-configuration-{{ $set }}-{{ $index }}
          optional: true
          items:
            {{- range $key := list "sequence" "index" "count" "digest" "content" }}
            - {key: {{ $key }}, path: {{ $set }}-{{ $index }}/{{ $key }}}
            {{- end }}
      {{- end }}
      {{- end }}
{{- end -}}

{{/* Spreads the pods of one component over nodes and zones, unless the values say how. (list root component) */}}
{{- define "hookcast.spread" -}}
{{- $root := first . -}}
topologySpreadConstraints:
  {{- if $root.Values.topologySpreadConstraints }}
  {{- toYaml $root.Values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "hookcast.selector" $ | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Where a pod may run. (list root part): the part's own value wins. */}}
{{- define "hookcast.placement" -}}
{{- $root := first . -}}
{{- $part := last . -}}
{{- with $part.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether extraVolumeMounts has the app's data directory. */}}
{{- define "hookcast.dataIsMounted" -}}
{{- range .Values.extraVolumeMounts }}{{ if eq (trimSuffix "/" .mountPath) "/var/lib/hookcast" }}true{{ end }}{{ end -}}
{{- end -}}

{{/* A pod of the app. (dict root component role resources) */}}
{{- define "hookcast.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "hookcast.selector" (list $root .component) | nindent 4 }}
    hookcast.dev/takes-configuration: "true"
    {{- with mergeOverwrite (dict) $values.labels $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- $checksum := dict "checksum/settings" (include "hookcast.settings" $root | sha256sum) }}
    {{- $container := dict "kubectl.kubernetes.io/default-container" .component }}
    {{- mergeOverwrite $container $values.annotations $values.podAnnotations $checksum | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "hookcast.fullname" $root | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "hookcast.graceSeconds" $root }}
  securityContext:
    {{- include "hookcast.podSecurity" $root | nindent 4 }}
    {{- if include "hookcast.isSidecar" $root }}
    fsGroup: {{ $values.redis.runAsUser }}
    fsGroupChangePolicy: OnRootMismatch
    {{- end }}
  {{- include "hookcast.placement" (list $root $values) | nindent 2 }}
  {{- if include "hookcast.isSidecar" $root }}
  initContainers:
    {{- include "hookcast.redisSidecar" $root | nindent 4 }}
  {{- else }}
  {{- include "hookcast.spread" (list $root .component) | nindent 2 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "hookcast.image" (list $root $values.image) | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [serve]
      {{- include "hookcast.environment" (list $root .role) | nindent 6 }}
      ports:
        - {name: http, containerPort: 8000}
        - {name: admin, containerPort: 9090}
      startupProbe:
        httpGet: {path: /health/live, port: admin}
        {{- toYaml $values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /health/live, port: admin}
        {{- toYaml $values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /health/ready, port: admin}
        {{- toYaml $values.probes.readiness | nindent 8 }}
      {{- if gt (int $values.preStopSeconds) 0 }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ $values.preStopSeconds | quote }}]
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "hookcast.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: settings, mountPath: /etc/hookcast/settings, readOnly: true}
        - {name: keys, mountPath: /etc/hookcast/keys, readOnly: true}
        {{- if $values.redis.existingSecret.name }}
        - {name: redis-url, mountPath: /etc/hookcast/redis-url, readOnly: true}
        {{- end }}
        # The image declares it a volume: without one of ours the runtime makes one that nobody bounds.
        {{- if not (include "hookcast.dataIsMounted" $root) }}
        - {name: data, mountPath: /var/lib/hookcast}
        {{- end }}
        {{- if $values.operator.enabled }}
        - {name: configuration, mountPath: /etc/hookcast/configuration, readOnly: true}
        {{- end }}
        {{- if $values.redis.caSecret.name }}
        - {name: redis-ca, mountPath: /etc/hookcast/redis, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    - name: settings
      configMap:
        name: {{ include "hookcast.fullname" $root }}-settings
    - name: keys
      secret:
        secretName: {{ include "hookcast.keysSecret" $root | quote }}
    {{- with $values.redis.existingSecret }}
    {{- if .name }}
    - name: redis-url
      secret:
        secretName: {{ .name | quote }}
        items:
          - {key: {{ .key | quote }}, path: url}
    {{- end }}
    {{- end }}
    {{- if $values.operator.enabled }}
    {{- include "hookcast.configurationVolume" $root | nindent 4 }}
    {{- end }}
    {{- if not (include "hookcast.dataIsMounted" $root) }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if include "hookcast.isSidecar" $root }}
    - name: redis
      {{- if $values.redis.persistence.enabled }}
      persistentVolumeClaim:
        claimName: {{ $values.redis.persistence.existingClaim | default (printf "%s-redis" (include "hookcast.fullname" $root)) | quote }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    {{- with $values.redis.caSecret }}
    {{- if .name }}
    - name: redis-ca
      secret:
        secretName: {{ .name | quote }}
        items:
          - {key: {{ .key | quote }}, path: ca.crt}
    {{- end }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Redis beside the app: starts before it, ends after it, reachable from nowhere else. */}}
{{- define "hookcast.redisSidecar" -}}
- name: redis
  image: {{ include "hookcast.image" (list . .Values.redis.image) | quote }}
  imagePullPolicy: {{ .Values.redis.image.pullPolicy }}
  restartPolicy: Always
  command: [redis-server]
  args:
    - --bind
    - 127.0.0.1
    - --port
    - "6379"
    - --dir
    - /data
    - --appendonly
    - "yes"
    - --appendfsync
    - {{ .Values.redis.appendfsync }}
    - --save
    - ""
    - --maxmemory
    - {{ include "hookcast.redisMaxmemory" . | quote }}
    - --maxmemory-policy
    - noeviction
  # Until its file is read Redis answers LOADING. No liveness probe: the app's readiness tells when it does not answer.
  startupProbe:
    exec:
      command: [sh, -c, "redis-cli -h 127.0.0.1 ping | grep -q PONG"]
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: {{ .Values.redis.startupSeconds }}
  resources:
    {{- toYaml .Values.redis.resources | nindent 4 }}
  securityContext:
    {{- include "hookcast.containerSecurity" . | nindent 4 }}
    runAsUser: {{ .Values.redis.runAsUser }}
    runAsGroup: {{ .Values.redis.runAsUser }}
  volumeMounts:
    - {name: redis, mountPath: /data}
{{- end -}}

{{- define "hookcast.pdbNeeded" -}}
{{- if gt (int (.autoscaling.enabled | ternary .autoscaling.minReplicas .replicas)) 1 }}true{{ end -}}
{{- end -}}
