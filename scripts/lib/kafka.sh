# One Apache Kafka node. Sourced after common.sh and tools.sh.

kafka_java=(java -Xmx1g "-Dlog4j2.configurationFile=$scripts/kafka/log4j2.yaml" -cp "$kafka_dir/*")

make_kafka() {
	local dir=$1 plain secure controller
	read -r plain secure controller < <(free_ports 3)
	mkdir "$dir/kafka"
	cat "$dir/tls/server.key" "$dir/tls/server.pem" >"$dir/tls/kafka.pem"
	sed -e "s#@DIR@#$dir#g" -e "s#@PLAIN_PORT@#$plain#g" -e "s#@SECURE_PORT@#$secure#g" \
		-e "s#@CONTROLLER_PORT@#$controller#g" \
		-e "s#@ADDRESS@#$(address_of "$dir")#g" -e "s#@NAME@#$(name_of "$dir")#g" \
		"$scripts/kafka/server.properties" \
		>"$dir/kafka/server.properties"
	echo "$plain" >"$dir/kafka/port"
	"${kafka_java[@]}" kafka.tools.StorageTool format --cluster-id dGlkZWdhdGUtdGVzdC0xMQ \
		--config "$dir/kafka/server.properties" \
		--add-scram 'SCRAM-SHA-512=[name=tidegate,password='"$(password_of "$dir" secret)]" >"$dir/kafka.log" 2>&1 ||
		{ show_log "$dir/kafka.log"; return 1; }
	cat >>"$dir/env" <<-ENV
		TIDEGATE_TEST_KAFKA=127.0.0.1:$plain
		TIDEGATE_TEST_KAFKA_TLS=$(name_of "$dir"):$secure
		TIDEGATE_TEST_KAFKA_USER=tidegate
		TIDEGATE_TEST_KAFKA_PASSWORD=$(password_of "$dir" secret)
		TIDEGATE_TEST_KAFKA_CP=$kafka_dir/*
		TIDEGATE_TEST_KAFKA_DATA=$dir/kafka/data
	ENV
}

start_kafka() {
	local dir=$1 from
	if running "$dir" kafka; then return; fi
	from=$(($(wc -c <"$dir/kafka.log") + 1))
	launch "$dir" kafka "${kafka_java[@]}" kafka.Kafka "$dir/kafka/server.properties"
	wait_ready 60 "$dir" kafka kafka_ready "$dir" kafka "$from"
}

# The port is open before the broker answers everything, so its own word counts too.
kafka_ready() {
	tail -c "+$3" "$1/$2.log" | grep 'Kafka Server started' && listening "$(cat "$1/$2/port")"
}

stop_kafka() { halt "$1" kafka TERM; }
