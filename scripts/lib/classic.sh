# A Kafka node as before KIP-848: its groups know the classic protocol alone. Sourced after kafka.sh.
#
# Made when it is first started: few tests want it.

make_classic() {
	local dir=$1 plain controller
	read -r plain controller < <(free_ports 2)
	mkdir "$dir/classic"
	sed -e "s#@DIR@/kafka#$dir/classic#g" -e "s#@PLAIN_PORT@#$plain#g" \
		-e "s#@CONTROLLER_PORT@#$controller#g" -e '/^listener\.name\.secure/d' \
		-e 's#SECURE://[^,]*,##' -e 's#,SECURE://.*##' \
		"$scripts/kafka/server.properties" >"$dir/classic/server.properties"
	"${kafka_java[@]}" kafka.tools.StorageTool format --cluster-id dGlkZWdhdGUtdGVzdC0xMg \
		--config "$dir/classic/server.properties" --feature group.version=0 >"$dir/classic.log" 2>&1 ||
		{ show_log "$dir/classic.log"; return 1; }
	# Tests read the address from here: the servers' env file is written before.
	echo "$plain" >"$dir/classic/port"
}

start_classic() {
	local dir=$1 from
	[ -f "$dir/classic/port" ] || make_classic "$dir"
	if running "$dir" classic; then return; fi
	from=$(($(wc -c <"$dir/classic.log") + 1))
	launch "$dir" classic "${kafka_java[@]}" kafka.Kafka "$dir/classic/server.properties"
	wait_ready 60 "$dir" classic kafka_ready "$dir" classic "$from"
}

stop_classic() { halt "$1" classic TERM; }
