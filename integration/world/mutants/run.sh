#!/usr/bin/env bash
# Puts old bugs back, one at a time, and asks the world to find each within a minute.
#
#     integration/world/mutants/run.sh [NAME...]
#
# A NAME is that of a patch, or its beginning up to a `-`: `A1` is A1-end-is-alarm.patch. Without one all patches are tried.
# A patch that was found is not tried again until it, the world or a crate changes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(git -C "$here" rev-parse --show-toplevel)
cd "$root"
results=${CARGO_TARGET_DIR:-$root/target}/ci/mutants
mkdir -p "$results"
results=$(cd "$results" && pwd)
build=$results/build
limit=60

# What a result depends on, beside its patch.
sources() {
    git ls-files --cached --others --exclude-standard -- Cargo.toml Cargo.lock crates integration/world |
        grep -v '^integration/world/mutants/.*\.patch$' | LC_ALL=C sort | while read -r file; do
        if [[ -f $file ]]; then sha256sum "$file"; fi
    done
}

# The patches that were asked for.
patches() {
    local name found
    if (($# == 0)); then
        printf '%s\n' "$here"/*.patch
        return
    fi
    for name in "$@"; do
        found=0
        for patch in "$here/$name.patch" "$here/$name"-*.patch; do
            if [[ -f $patch ]]; then
                found=1
                printf '%s\n' "$patch"
            fi
        done
        if ((found == 0)); then
            echo "there is no patch $name" >&2
            return 1
        fi
    done
}

scratch=
clean_up() {
    if [[ -n $scratch ]]; then
        git worktree remove --force "$scratch/tree" 2>/dev/null || true
        rm -rf "$scratch"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# A tree of its own, with the files as they are here, committed or not.
make_tree() {
    scratch=$(mktemp -d)
    git worktree add --quiet --detach --no-checkout "$scratch/tree"
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        if [[ -e $file ]]; then printf '%s\0' "$file"; fi
    done | tar --create --null --files-from=- | tar --extract --directory "$scratch/tree"
    # Cargo goes by the times of files: what the last tree left may be younger than the files of this one, and another thing.
    if [[ -d $build/release ]]; then
        find "$build/release" -name '*leasehold*' -prune -exec rm -rf {} +
    fi
}

# Runs the world with these arguments, for what is left of the limit. Prints the first promise that it finds broken.
broken_by() {
    local left=$((limit - (SECONDS - begun))) story status=0
    if ((left <= 0)); then return; fi
    story=$(timeout "$left" "$build/release/leasehold-world" "$@" 2>&1) || status=$?
    case $status in
    0 | 124) ;;
    101) echo "the world panicked" ;;
    *) sed -n 's/^  seed [^:]*: \([A-Za-z]*\) at .*/\1/p' <<<"$story" | head -n 1 ;;
    esac
}

# Prints the first promise that the mutant breaks: in its own kept plans, in the others, and in worlds from fixed seeds.
search() {
    local id=$1 plan promise seed=1
    for plan in integration/world/plans/"$id"-*.json integration/world/plans/*.json; do
        if [[ ! -f $plan ]]; then continue; fi
        promise=$(broken_by --plan "$plan")
        if [[ -n $promise ]]; then
            echo "$promise ($(basename "$plan"))"
            return
        fi
    done
    while ((SECONDS - begun < limit)); do
        promise=$(broken_by --years 0.004 --from-seed "$seed" --threads 2)
        if [[ -n $promise ]]; then
            echo "$promise (worlds from seed $seed)"
            return
        fi
        seed=$((seed + 100))
    done
}

chosen=$(patches "$@")
common=$(sources | sha256sum)
missed=0
while read -r patch; do
    name=$(basename "$patch" .patch)
    hash=$({ cat "$patch" && echo "$common"; } | sha256sum | cut -c 1-16)
    kept=$results/$name-$hash
    if [[ -f $kept ]]; then
        cat "$kept"
        continue
    fi
    if [[ -z $scratch ]]; then make_tree; fi
    git -C "$scratch/tree" apply "$patch"
    (cd "$scratch/tree" && CARGO_TARGET_DIR=$build cargo build --quiet --release --package leasehold-world) 2>"$results/log" || {
        cat "$results/log" >&2
        echo "$name does not compile" >&2
        exit 1
    }
    begun=$SECONDS
    promise=$(search "${name%%-*}")
    if [[ -n $promise ]]; then
        echo "$name found in $((SECONDS - begun)) s: $promise" | tee "$kept.new"
        rm -f "$results/$name"-????????????????
        mv "$kept.new" "$kept"
    else
        echo "$name NOT FOUND"
        missed=1
    fi
    git -C "$scratch/tree" apply --reverse "$patch"
done <<<"$chosen"
((missed == 0))
