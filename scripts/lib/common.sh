# What the scripts share. Sourced; expects `set -euo pipefail`.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }

die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# A folder for the servers: their data is written once and thrown away, so memory is best.
fresh_dir() {
	local place=${TMPDIR:-/tmp} free
	free=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
	[ "${free:-0}" -lt $((8 * 1024 * 1024)) ] || place=/dev/shm
	mktemp -d "$place/tidegate-servers.XXXXXX"
}

# wait_until SECONDS WHAT COMMAND... polls until COMMAND succeeds.
wait_until() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || {
			printf 'error: gave up waiting for %s\n' "$what" >&2
			return 1
		}
		sleep 0.1
	done
}

# wait_ready SECONDS DIR NAME COMMAND... waits for the server just launched; if it does not come, or
# dies, the end of its log is shown.
wait_ready() {
	local seconds=$1 dir=$2 name=$3
	shift 3
	wait_until "$seconds" "$name" ready_or_dead "$(cat "$dir/$name.pid")" "$@" && "$@" >/dev/null && return
	printf 'error: %s does not answer; the end of %s:\n' "$name" "$dir/$name.log" >&2
	tail -n 30 "$dir/$name.log" >&2
	return 1
}

ready_or_dead() {
	local pid=$1
	shift
	"$@" || ! kill -0 "$pid"
}

# listening PORT [ADDRESS]
listening() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1"); }

# Where the servers in a folder are to be reached by containers; the loopback, if they are not.
address_of() { cat "$1/address"; }

# only_elsewhere DIR WORDS prints WORDS if containers are to reach the servers.
only_elsewhere() { [ "$(address_of "$1")" = 127.0.0.1 ] || printf '%s\n' "$2"; }

# password_of DIR USUAL: what lets a client in; USUAL where nobody else can come.
password_of() { [ -s "$1/password" ] && cat "$1/password" || echo "$2"; }

# What the servers' certificate is for. Not for 127.0.0.1: a client that asks for it is refused.
name_of() {
	local address
	address=$(address_of "$1")
	[ "$address" = 127.0.0.1 ] && echo localhost || echo "$address"
}

# free_ports N prints N free loopback ports. They lie below the range from which outgoing
# connections take theirs: else a client that tries again while its server is stopped could be
# given the server's own port.
free_ports() {
	python3 - "$1" <<-'PYTHON'
		import random, socket, sys
		held = []
		while len(held) < int(sys.argv[1]):
		    s = socket.socket()
		    try:
		        s.bind(("127.0.0.1", random.randrange(18000, 32000)))
		        held.append(s)
		    except OSError:
		        s.close()
		print(*[s.getsockname()[1] for s in held])
	PYTHON
}

# launch DIR NAME COMMAND... starts a server that outlives this script. COMMAND must name DIR, by
# which `running` knows it again.
launch() {
	local dir=$1 name=$2
	shift 2
	nohup "$@" >>"$dir/$name.log" 2>&1 </dev/null &
	echo $! >"$dir/$name.pid"
}

# running DIR NAME: a process number alone could by now be somebody else's, or a zombie's.
running() {
	local pid
	pid=$(cat "$1/$2.pid" 2>/dev/null) || return 1
	case $(command_line "$pid") in *"$1"*) ;; *) return 1 ;; esac
}

command_line() {
	if [ -r /proc/self/cmdline ]; then
		tr '\0' ' ' <"/proc/$1/cmdline"
	else
		ps -p "$1" -o command=
	fi 2>/dev/null || true
}

stopped() { ! running "$@"; }

# halt DIR NAME SIGNAL stops a server, by force if it takes longer than 30 seconds.
halt() {
	local dir=$1 name=$2 signal=$3 pid
	running "$dir" "$name" || return 0
	pid=$(cat "$dir/$name.pid")
	# A server that a test has paused would never see the signal.
	kill "-$signal" "$pid" && kill -CONT "$pid" || true
	if ! wait_until 30 "$name to stop" stopped "$dir" "$name"; then
		kill -KILL "$pid" || true
		wait_until 10 "$name to die" stopped "$dir" "$name"
	fi
}

# show_log FILE: the end of a log, for the one who asks why it did not start.
show_log() {
	printf -- '--- end of %s\n' "$1" >&2
	tail -n 30 "$1" >&2 || true
}
