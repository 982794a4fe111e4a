# An OpenID Connect issuer (Dex), by TLS with the tests' certificate. Sourced after common.sh and tools.sh.
#
# Got and made when it is first started: few tests want it. It keeps all in memory, its keys too: started
# again it has others. People sign in with a password (bob, `password`), or as whoever the header
# `X-Remote-User` names, in the groups of `X-Remote-Group`, as behind a proxy that has asked them.

make_oidc() {
	local dir=$1 port
	need oidc
	port=$(free_ports 1)
	mkdir "$dir/oidc"
	# Tests read the address from here: the servers' env file is written before.
	echo "https://localhost:$port/dex" >"$dir/oidc/url"
	echo "$port" >"$dir/oidc/port"
	# The password's hash is one of bcrypt's, as in Dex's own example.
	cat >"$dir/oidc/config.yaml" <<-YAML
		issuer: https://localhost:$port/dex
		storage: {type: memory}
		web: {https: 127.0.0.1:$port, tlsCert: $dir/tls/server.pem, tlsKey: $dir/tls/server.key}
		expiry: {idTokens: 1h}
		oauth2: {skipApprovalScreen: true, passwordConnector: local}
		enablePasswordDB: true
		staticPasswords:
		  - email: bob@example.org
		    hash: \$2a\$10\$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W
		    username: bob
		    userID: "7"
		connectors:
		  - {type: authproxy, id: proxy, name: proxy}
		staticClients:
		  - {id: tidegate, name: tidegate, secret: secret, redirectURIs: [http://127.0.0.1/back]}
		  - {id: other, name: other, secret: secret, redirectURIs: [http://127.0.0.1/back]}
	YAML
}

start_oidc() {
	local dir=$1
	[ -f "$dir/oidc/url" ] || make_oidc "$dir"
	if running "$dir" oidc; then return; fi
	launch "$dir" oidc "$dex_dir/dex" serve "$dir/oidc/config.yaml"
	wait_ready 30 "$dir" oidc oidc_ready "$dir"
}

oidc_ready() { listening "$(cat "$1/oidc/port")"; }

stop_oidc() { halt "$1" oidc TERM; }
