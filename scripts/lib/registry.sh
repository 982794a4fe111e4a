# A schema registry (Apicurio, by its Confluent interface) that keeps its schemas in memory. Sourced
# after common.sh and tools.sh.
#
# Got and made when it is first started: few tests want it.

registry_path=/apis/ccompat/v7

make_registry() {
	local dir=$1 port
	need registry
	port=$(free_ports 1)
	mkdir "$dir/registry"
	# Tests read the address from here: the servers' env file is written before.
	echo "$port" >"$dir/registry/port"
	echo "http://127.0.0.1:$port$registry_path" >"$dir/registry/url"
}

start_registry() {
	local dir=$1
	[ -f "$dir/registry/url" ] || make_registry "$dir"
	if running "$dir" registry; then return; fi
	launch "$dir" registry java -Xmx512m "-Djava.io.tmpdir=$dir/registry" \
		-Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$(cat "$dir/registry/port")" \
		-jar "$registry_dir/apicurio-registry-app-$registry_version-runner.jar"
	wait_ready 120 "$dir" registry registry_ready "$dir"
}

# The port is open before it answers.
registry_ready() {
	local port answer
	port=$(cat "$1/registry/port")
	exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
	printf 'GET %s/subjects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$registry_path" >&3
	read -r answer <&3 || true
	exec 3>&-
	case $answer in *' 200 '*) ;; *) return 1 ;; esac
}

stop_registry() { halt "$1" registry TERM; }
