# A collector of traces and metrics by OTLP (Jaeger 2), without TLS. Sourced after common.sh and tools.sh.
#
# Got and made when it is first started: few tests want it. It keeps all in memory: started again it has
# nothing. What a sender has been answered for is stored, and can be asked for at once: nothing is batched.

make_jaeger() {
	local dir=$1 query grpc http metrics own
	need jaeger
	read -r query grpc http metrics own < <(free_ports 5)
	mkdir "$dir/jaeger"
	# Its own telemetry and health check are off, since their ports would be fixed ones.
	cat >"$dir/jaeger/config.yaml" <<-YAML
		service:
		  extensions: [jaeger_storage, jaeger_query]
		  pipelines:
		    traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}
		    metrics: {receivers: [otlp], exporters: [prometheus]}
		  telemetry: {metrics: {level: none}, traces: {level: none}}
		extensions:
		  jaeger_storage: {backends: {memory: {memory: {max_traces: 100000}}}}
		  jaeger_query:
		    storage: {traces: memory}
		    http: {endpoint: '127.0.0.1:$query'}
		    grpc: {endpoint: '127.0.0.1:$own'}
		    # Else it sends traces of what it was asked, and not to this receiver.
		    enable_tracing: false
		receivers:
		  otlp:
		    protocols:
		      grpc: {endpoint: '127.0.0.1:$grpc'}
		      http: {endpoint: '127.0.0.1:$http'}
		exporters:
		  jaeger_storage_exporter: {trace_storage: memory}
		  prometheus:
		    endpoint: 127.0.0.1:$metrics
		    # Names as they were sent: else it puts units into them.
		    translation_strategy: UnderscoreEscapingWithoutSuffixes
	YAML
	echo "$query $grpc $http $metrics" >"$dir/jaeger/ports"
	# Tests read the addresses from here: the servers' env file is written before.
	echo "http://127.0.0.1:$grpc" >"$dir/jaeger/grpc"
	echo "http://127.0.0.1:$http" >"$dir/jaeger/http"
	echo "http://127.0.0.1:$metrics/metrics" >"$dir/jaeger/metrics"
	echo "http://127.0.0.1:$query" >"$dir/jaeger/url"
}

start_jaeger() {
	local dir=$1
	[ -f "$dir/jaeger/url" ] || make_jaeger "$dir"
	if running "$dir" jaeger; then return; fi
	launch "$dir" jaeger "$jaeger_dir/jaeger" --config "$dir/jaeger/config.yaml"
	wait_ready 30 "$dir" jaeger jaeger_ready "$dir"
}

# Each part opens its port by itself.
jaeger_ready() {
	local port
	for port in $(cat "$1/jaeger/ports"); do listening "$port" || return 1; done
}

stop_jaeger() { halt "$1" jaeger TERM; }
