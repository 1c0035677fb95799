#!/bin/sh
# Installs the Debian packages given, where it may: apt-get, and root or sudo without a password.
# Exits 0 when all are there at the end; otherwise says what is missing and exits 1.
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null && { [ -z "$as_root" ] || $as_root true 2>/dev/null; }; then
    echo "installing Debian packages:$missing"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null \
        || { $as_root apt-get update -qq \
            && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
                >/dev/null; } \
        && exit 0
fi
echo "not installed:$missing (on Debian or Ubuntu: sudo apt-get install$missing)" >&2
exit 1
