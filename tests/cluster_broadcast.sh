#!/bin/sh
# Two hosts on one network, as network namespaces: two servers on the first, one on the second, with default settings for
# the cluster. Each must find the other two by broadcast, and the others must notice when one leaves.
# Usage: cluster_broadcast.sh PATH-OF-THE-BINARY. Exit code 77: namespaces cannot be made here.
set -u
server=$1
one=rainbow-$$-1
two=rainbow-$$-2
dir=$(mktemp -d)
pids=

cleanup() {
    for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
    ip netns del "$one" 2>/dev/null
    ip netns del "$two" 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $1"
    for log in "$dir"/*.log; do echo "--- $log"; tail -n 20 "$log"; done
    exit 1
}

command -v ip >/dev/null || { echo "there is no ip command"; exit 77; }
command -v bash >/dev/null || { echo "there is no bash to ask the servers with"; exit 77; }
{ ip netns add "$one" && ip netns add "$two"; } 2>"$dir/refused" ||
    { echo "network namespaces cannot be made: $(cat "$dir/refused")"; exit 77; }
ip link add name rb0 netns "$one" type veth peer name rb0 netns "$two" 2>"$dir/refused" ||
    { echo "a network between namespaces cannot be made: $(cat "$dir/refused")"; exit 77; }

for host in 1 2; do
    netns=rainbow-$$-$host
    ip -n "$netns" link set lo up
    ip -n "$netns" address add 10.99.0.$host/24 dev rb0
    ip -n "$netns" link set rb0 up
    ip -n "$netns" route add default dev rb0
done

# start HOST PORT
start() {
    file=$dir/$1-$2
    {
        printf '[main]\nconnect_url = http://127.0.0.1:9/\nforward_url = http://127.0.0.1:9/{message_type}/\n'
        printf 'close_url = http://127.0.0.1:9/\nsecurity_token = broadcast-test\ncluster_name = broadcast\n'
    } >"$file.ini"
    ip netns exec "rainbow-$$-$1" "$server" -f "$file.ini" -p "$2" >"$file.log" 2>&1 &
    pids="$pids $!"
}

# peers HOST PORT: the number of peers a server knows
peers() {
    ip netns exec "rainbow-$$-$1" bash -c "
        exec 3<>/dev/tcp/127.0.0.1/$2 || exit
        printf 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3
        cat <&3" 2>/dev/null | sed -n 's/^rainbow_cluster_peers \([0-9]*\).*/\1/p'
}

# expect COUNT SECONDS HOST PORT
expect() {
    left=$(($2 * 5))
    while [ "$(peers "$3" "$4")" != "$1" ]; do
        left=$((left - 1))
        [ $left -gt 0 ] || fail "host $3 port $4 knows $(peers "$3" "$4") peers instead of $1"
        sleep 0.2
    done
}

start 1 1984
start 1 1985
start 2 1984
expect 2 25 1 1984
expect 2 25 1 1985
expect 2 25 2 1984

third=${pids##* }
kill -TERM "$third"
expect 1 5 1 1984
expect 1 5 1 1985
echo "found by broadcast: three servers on two hosts"
