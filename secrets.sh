#!/bin/sh
# secrets.sh FOLDER: random passwords as files, and the addresses they are part of. What is there already stays.
#
# Only the owner can enter the folder. The files themselves are readable, because Docker shows them to containers whose
# accounts are not the owner's. None ends with a newline: KEDA takes one for a part of the address.
set -eu
folder=$1
umask 077
mkdir -p "$folder"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # keep NAME VALUE
    [ -s "$folder/$1" ] && return
    printf %s "$2" > "$folder/$1"
    chmod 444 "$folder/$1"
    echo "$folder/$1"
}

keep secret_key "$(random)"
# Empty: stored images are not encrypted. docs/privacy.md says what goes in here; it is the owner's to change.
[ -e "$folder/blob_keys" ] || { : > "$folder/blob_keys"; chmod 644 "$folder/blob_keys"; echo "$folder/blob_keys"; }
keep postgres_password "$(random)"
keep database_url "postgresql://lesionlens:$(cat "$folder/postgres_password")@postgres:5432/lesionlens"
keep redis_auth "requirepass $(random)"
keep redis_url "redis://:$(cut -d' ' -f2 "$folder/redis_auth")@redis:6379/0"
keep grafana_password "$(random)"
keep s3_access_key_id lesionlens
keep s3_secret_access_key "$(random)"
