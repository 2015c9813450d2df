{{- define "objections.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "objections.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "objections.labels" -}}
{{ include "objections.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "objections.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "objections.group" -}}
{{ .Values.kafka.group | default (printf "%sobjections" .Values.kafka.topicPrefix) }}
{{- end }}

{{/* The name of the KafkaUser of a role, or of a user of the list; and of the Secret made for it. */}}
{{- define "objections.user" -}}
{{ printf "%s-%s" (include "objections.fullname" .root) .name }}
{{- end }}

{{/* What runs: worker and monitor always, the others where they are switched on. */}}
{{- define "objections.roles" -}}
worker monitor{{ if .Values.intake.enabled }} intake{{ end }}{{ if .Values.canary.enabled }} canary{{ end }}
{{- end }}

{{/* What cannot work is refused here, with the remedy; values.schema.json knows the shapes. */}}
{{- define "objections.check" -}}
{{- if not .Values.kafka.bootstrap }}
{{- fail "kafka.bootstrap is empty, expected HOST:PORT of your Kafka: --set kafka.bootstrap=my-cluster-kafka-bootstrap:9093" }}
{{- end }}
{{- if not .Values.httpToken.secret }}
{{- fail "httpToken.secret is empty, expected the name of a Secret: kubectl create secret generic objections-http --from-literal=token=$(openssl rand -hex 32), then --set httpToken.secret=objections-http" }}
{{- end }}
{{- if and .Values.intake.enabled (not .Values.intake.key.secret) }}
{{- fail "intake.key.secret is empty, expected the name of a Secret with what signs the links of notices: kubectl create secret generic objections-intake --from-literal=key=$(openssl rand -hex 32), then --set intake.key.secret=objections-intake" }}
{{- end }}
{{- if and .Values.canary.enabled (not .Values.stores) }}
{{- fail "stores is empty, expected the data stores that the canary is to measure, or canary.enabled=false" }}
{{- end }}
{{- if .Values.strimzi.enabled }}
{{- if not .Values.strimzi.cluster }}
{{- fail "strimzi.cluster is empty, expected the name of the Kafka resource that gets the topics" }}
{{- end }}
{{- if gt (int .Values.worker.replicas) (int .Values.strimzi.partitions) }}
{{- fail (printf "worker.replicas is %d, expected at most strimzi.partitions (%d): a worker without a partition is never ready, and would hold up every rolling restart" (int .Values.worker.replicas) (int .Values.strimzi.partitions)) }}
{{- end }}
{{- if ge (int .Values.strimzi.minInsyncReplicas) (int .Values.strimzi.replicas) }}
{{- if gt (int .Values.strimzi.replicas) 1 }}
{{- fail (printf "strimzi.minInsyncReplicas is %d, expected less than strimzi.replicas (%d): else no broker could be restarted" (int .Values.strimzi.minInsyncReplicas) (int .Values.strimzi.replicas)) }}
{{- end }}
{{- end }}
{{- else }}
{{- if hasPrefix "SASL" .Values.kafka.securityProtocol }}
{{- range $role := include "objections.roles" . | splitList " " }}
{{- $credentials := index $.Values.kafka.credentials $role }}
{{- if not (and $credentials.secret $credentials.username) }}
{{- fail (printf "kafka.credentials.%s has no secret or no username, expected both where kafka.securityProtocol is %s and strimzi.enabled is false" $role $.Values.kafka.securityProtocol) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The environment of a container; call with (dict "root" $ "role" "worker"). */}}
{{- define "objections.environment" -}}
{{- $root := .root }}
{{- $kafka := .root.Values.kafka }}
{{- $credentials := index $kafka.credentials .role }}
{{- $user := include "objections.user" (dict "root" .root "name" .role) }}
- {name: OBJECTIONS_BOOTSTRAP, value: {{ $kafka.bootstrap | quote }}}
{{- if $kafka.topicPrefix }}
- {name: OBJECTIONS_TOPIC_PREFIX, value: {{ $kafka.topicPrefix | quote }}}
{{- end }}
- {name: OBJECTIONS_GROUP, value: {{ include "objections.group" $root | quote }}}
- {name: OBJECTIONS_HTTP, value: "0.0.0.0:6066"}
- name: OBJECTIONS_HTTP_TOKEN
  valueFrom: {secretKeyRef: {name: {{ $root.Values.httpToken.secret | quote }}, key: {{ $root.Values.httpToken.key | quote }}}}
{{- with $root.Values.stores }}
- name: OBJECTIONS_STORES
  value: {{ range $i, $name := keys . | sortAlpha }}{{ if $i }};{{ end }}{{ $name }}={{ get $root.Values.stores $name }}{{ end }}
{{- end }}
- {name: OBJECTIONS_KAFKA_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol | quote }}}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- {name: OBJECTIONS_KAFKA_SASL_MECHANISM, value: {{ $kafka.saslMechanism | quote }}}
- {name: OBJECTIONS_KAFKA_SASL_USERNAME, value: {{ $credentials.username | default $user | quote }}}
- name: OBJECTIONS_KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $credentials.secret | default $user | quote }}, key: password}}
{{- end }}
{{- if and $kafka.caSecret.name (hasSuffix "SSL" $kafka.securityProtocol) }}
- {name: OBJECTIONS_KAFKA_SSL_CA_LOCATION, value: {{ printf "/etc/objections/kafka-ca/%s" $kafka.caSecret.key | quote }}}
{{- end }}
{{- range $option, $value := $kafka.options }}
- {name: {{ printf "OBJECTIONS_KAFKA_%s" ($option | upper | replace "." "_") | quote }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- define "objections.subject-key" -}}
{{- if .Values.subjectKey.secret -}}
- name: OBJECTIONS_SUBJECT_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.subjectKey.secret | quote }}, key: {{ .Values.subjectKey.key | quote }}}}
{{- end }}
{{- end }}

{{- define "objections.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch # not every file at every start
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "objections.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "objections.kafka-ca-mount" -}}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, mountPath: /etc/objections/kafka-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "objections.volumes" -}}
- {name: tmp, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, secret: {secretName: {{ .Values.kafka.caSecret.name | quote }}}}
{{- end }}
{{- end }}
