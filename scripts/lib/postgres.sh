# One PostgreSQL cluster. Sourced after common.sh and tools.sh.

# PostgreSQL refuses to run as root.
postgres_user() { id -u postgres >/dev/null 2>&1 && echo postgres || echo nobody; }

# Prints the words to put before a command so that it runs as the cluster's owner. They exec, so
# that the process number stays the server's.
as_owner() {
	[ "$(id -u)" = 0 ] || return 0
	local user
	user=$(postgres_user)
	echo setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups
}

make_postgres() {
	local dir=$1 bin port home=$1/postgres
	bin=$(postgres_bin)
	port=$(free_ports 1)
	mkdir -p "$home/data"
	cp "$dir/tls/server.key" "$dir/tls/server.pem" "$home"
	chmod 600 "$home/server.key"
	[ "$(id -u)" != 0 ] || chown -R "$(postgres_user)" "$home"
	$(as_owner) "$bin/initdb" -D "$home/data" -U tidegate -A trust -E UTF8 --locale=C \
		>"$dir/postgres.log" 2>&1 || { show_log "$dir/postgres.log"; return 1; }
	cat >>"$home/data/postgresql.conf" <<-CONF
		listen_addresses = '127.0.0.1$(only_elsewhere "$dir" ",$(address_of "$dir")")'
		port = $port
		unix_socket_directories = ''
		max_connections = 200
		fsync = on
		ssl = on
		ssl_cert_file = '$home/server.pem'
		ssl_key_file = '$home/server.key'
		log_line_prefix = '%m [%p] %a '
	CONF
	# tidegate is let in without a password; tidegate_tls only by TLS and with one.
	cat >"$home/data/pg_hba.conf" <<-HBA
		hostssl   all tidegate_tls 127.0.0.1/32 scram-sha-256
		hostnossl all tidegate_tls 127.0.0.1/32 reject
		host      all all          127.0.0.1/32 trust
	HBA
	only_elsewhere "$dir" 'hostssl all tidegate_tls 0.0.0.0/0 scram-sha-256' >>"$home/data/pg_hba.conf"
	cat >>"$dir/env" <<-ENV
		TIDEGATE_TEST_POSTGRES=postgres://tidegate@127.0.0.1:$port/postgres
		TIDEGATE_TEST_POSTGRES_TLS=postgres://tidegate_tls@$(name_of "$dir"):$port/postgres
		TIDEGATE_TEST_POSTGRES_TLS_PASSWORD=$(password_of "$dir" secret)
		TIDEGATE_TEST_PGDATA=$home/data
		TIDEGATE_TEST_PGBIN=$bin
	ENV
	start_postgres "$dir"
	postgres_sql "$dir" "create role tidegate_tls superuser login password '$(password_of "$dir" secret)'"
}

postgres_port() { sed -n 's/^port = //p' "$1/postgres/data/postgresql.conf"; }

postgres_sql() {
	"$(postgres_bin)/psql" -X -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$(postgres_port "$1")" \
		-U tidegate -d postgres -c "$2"
}

start_postgres() {
	local dir=$1
	if running "$dir" postgres; then return; fi
	launch "$dir" postgres $(as_owner) "$(postgres_bin)/postgres" -D "$dir/postgres/data"
	wait_ready 60 "$dir" postgres postgres_ready "$dir"
}

postgres_ready() { postgres_sql "$1" 'select 1'; }

# INT is the fast shutdown: sessions are ended, the cluster is left clean.
stop_postgres() { halt "$1" postgres INT; }
