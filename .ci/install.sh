#!/bin/sh
# Installs what is in this folder below /usr/local, or below the folder that is given; asks nothing
# and fetches nothing.
#   ./install.sh [FOLDER]      such as ~/.local
set -eu
to=${1:-/usr/local}
case $to in
-*)
    echo "./install.sh [FOLDER]    installs below /usr/local, or below FOLDER such as ~/.local" >&2
    exit 2
    ;;
/*) ;;
*) to=$PWD/$to ;;
esac
cd "$(dirname "$0")"
if ! version=$(./prx --version 2>/dev/null); then
    echo "This prx does not run here: it is for another machine than $(uname -m)." >&2
    exit 1
fi
if ! mkdir -p "$to/bin" || ! [ -w "$to/bin" ]; then
    echo "$to cannot be written: use sudo, or name a folder of yours: ./install.sh ~/.local" >&2
    exit 1
fi

# put FILE MODE PLACE. By renaming: a running bot keeps its file, and then takes the new one over.
put() {
    mkdir -p "$(dirname "$3")"
    cp "$1" "$3.new"
    chmod "$2" "$3.new"
    mv -f "$3.new" "$3"
    echo "$3"
}
put prx 755 "$to/bin/prx"
put prx.1 644 "$to/share/man/man1/prx.1"
put completions/prx 644 "$to/share/bash-completion/completions/prx"
put completions/_prx 644 "$to/share/zsh/site-functions/_prx"
put completions/prx.fish 644 "$to/share/fish/vendor_completions.d/prx.fish"
# systemd reads this folder of /usr/local. The unit does nothing until it is enabled.
if [ "$to" = /usr/local ] && [ -d /run/systemd/system ]; then
    put prx.service 644 /usr/local/lib/systemd/system/prx.service
fi
echo "$version is installed. What comes next: $to/bin/prx init"
