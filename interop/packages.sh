#!/bin/bash
# interop/packages.sh PACKAGE...: installs the Debian packages that are missing, without starting their services.
# One call before anything runs side by side: two apt-get at once would fail on its locks.
set -u
die() { echo "packages.sh: $*" >&2; exit 1; }

missing=()
for package in "$@"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
[ "$(id -u)" = 0 ] || die "not installed, and only root can install: ${missing[*]}"

# Maintainer scripts start services unless a policy forbids it: forbid it for the time of the install.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
log=$(mktemp "${TMPDIR:-/tmp}/interop-packages.XXXXXX")
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" >>"$log" 2>&1; }
echo "packages.sh: apt-get install ${missing[*]}" >&2
install || { apt-get update -qq >>"$log" 2>&1; install; } || die "apt-get install failed, see $log"
rm -f "$log"
