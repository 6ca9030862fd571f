#!/bin/sh
# Makes cellar(1) of what the command says of itself:
#
#     man1.sh build/cellar > cellar.1
set -eu
cellar=$1
{
    "$cellar" --version
    "$cellar" --help
    commands=$("$cellar" --help |
        awk '/^commands:/ { on = 1; next } /^$/ { on = 0 } on && /^  [a-z]/ { print $1 }')
    for command in $commands; do
        echo "@command $command"
        "$cellar" "$command" --help
    done
} | awk -f "$(dirname "$0")/man1.awk"
