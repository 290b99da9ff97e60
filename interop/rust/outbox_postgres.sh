#!/bin/bash
# The toolkit's outbox in PostgreSQL: starts a server of its own, runs crates/leveret/tests/outbox_postgres.rs on it (with a
# broker inside the tests, so that relays can be cut off from both), and counts. Needs nothing that runs already.
set -u
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d "${TMPDIR:-/tmp}/outbox-postgres.XXXXXX")
chmod 755 "$dir"
trap 'interop/postgres.sh stop "$dir"; rm -rf "$dir"' EXIT

fail() { echo "FAILED $*"; echo "outbox-postgres: ${passed:-0} passed, 1 failed"; exit 1; }

free_port() {
  local port
  for port in $(shuf -i 20000-29999 -n 50); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

interop/postgres.sh start "$(free_port)" "$dir" || fail "PostgreSQL does not start"
LEVERET_TEST_POSTGRES_URL=$(interop/postgres.sh url "$dir")
export LEVERET_TEST_POSTGRES_URL

# With the features of the whole workspace, so that what `cargo test --workspace` has built is not built again.
cargo test --workspace --test outbox_postgres -- --ignored --skip relay_process 2>&1 | tee "$dir/tests.log"
status=${PIPESTATUS[0]}
sed -n 's/^test \(.*\) \.\.\. FAILED$/FAILED \1/p' "$dir/tests.log"
counts=$(sed -n 's/^test result: .*\. \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 passed, \2 failed/p' "$dir/tests.log")
passed=${counts%% *}
[ -n "$counts" ] || fail "the tests were not run"
case "$counts" in *", 0 failed") [ "$status" = 0 ] || fail "cargo test exited $status" ;; esac
echo "outbox-postgres: $counts"
exit "$status"
