# An S3 server (versitygw over a folder) with one bucket. Sourced after common.sh and tools.sh.

make_s3() {
	local dir=$1 port address
	port=$(free_ports 1)
	address=$(address_of "$dir")
	mkdir -p "$dir/s3/root/lake" "$dir/s3/iam"
	echo "$port" >"$dir/s3/port"
	# Somebody who may read only what a bucket's policy lets him read.
	cat >"$dir/s3/iam/users.json" <<-JSON
		{"accessAccounts": {"reader": {"access": "reader", "secret": "$(password_of "$dir" readerreader)", "role": "user"}}}
	JSON
	cat >>"$dir/env" <<-ENV
		TIDEGATE_TEST_S3_READER_KEY=reader
		TIDEGATE_TEST_S3_READER_SECRET=$(password_of "$dir" readerreader)
		TIDEGATE_TEST_S3_ENDPOINT=http://$address:$port
		TIDEGATE_TEST_S3_REGION=us-east-1
		TIDEGATE_TEST_S3_ACCESS_KEY=test
		TIDEGATE_TEST_S3_SECRET_KEY=$(password_of "$dir" testtest)
		TIDEGATE_TEST_S3_BUCKET=lake
		TIDEGATE_TEST_S3_ROOT=$dir/s3/root
	ENV
}

# Object metadata is kept in extended attributes, which a tmpfs has only since Linux 6.6; without
# them it goes into a folder beside.
s3_metadata() {
	python3 - "$1/s3/root" <<-'PYTHON' || { mkdir -p "$1/s3/meta" && echo "--sidecar $1/s3/meta"; }
		import os, sys
		if hasattr(os, "setxattr"):
		    try:
		        os.setxattr(sys.argv[1], "user.tidegate", b"1")
		        os.removexattr(sys.argv[1], "user.tidegate")
		    except OSError:
		        sys.exit(1)
	PYTHON
}

start_s3() {
	local dir=$1
	if running "$dir" s3; then return; fi
	launch "$dir" s3 "$versitygw_dir/versitygw" --access test --secret "$(password_of "$dir" testtest)" \
		--port "$(address_of "$dir"):$(cat "$dir/s3/port")" --region us-east-1 --keep-alive --quiet \
		--iam-dir "$dir/s3/iam" posix $(s3_metadata "$dir") "$dir/s3/root"
	wait_ready 30 "$dir" s3 s3_ready "$dir"
}

s3_ready() { listening "$(cat "$1/s3/port")" "$(address_of "$1")"; }

stop_s3() { halt "$1" s3 TERM; }
