# `bash .ci/run changed [BASE]`: the inner loop. Lints and tests of the packages that differ from BASE, and of those that
# depend on them: cargo compiles no others anyway, and nextest runs no others.

changed() {
  local base=${1:-origin/main} files
  git rev-parse --quiet --verify "$base^{commit}" >/dev/null || {
    [ $# = 0 ] || { echo "there is no $base"; exit 2; }
    echo "there is no origin/main to compare with: only what is not committed counts"
    base=HEAD
  }
  base=$(git merge-base "$base" HEAD)
  files=$(git diff --name-only "$base"; git ls-files --others --exclude-standard)
  CHANGED=$(printf '%s\n' "$files" | packages_with)
  run fmt
  [ -n "$CHANGED" ] || { echo "no package differs from $base"; return; }
  echo "changed: $CHANGED"
  run clippy
  run changed_tests
}

# The packages that files belong to; `all` if one belongs to the whole workspace.
packages_with() {
  local file folder
  while read -r file; do
    case $file in
      Cargo.toml | Cargo.lock | clippy.toml | .cargo/* | .config/*) echo all ;;
      # The README's example is a doc test of the suites; the doc tests run with all of them.
      crates/*/* | examples/*/* | integration/*/*)
        folder=$(cut -d/ -f1-2 <<<"$file")
        [ ! -e "$folder/Cargo.toml" ] || sed -n 's/^name = "\(.*\)"/\1/p;/^$/q' "$folder/Cargo.toml"
        ;;
    esac
  done | sort -u | tr '\n' ' '
}

changed_tests() {
  local filter="all()"
  case " $CHANGED" in
    *" all "*) ;;
    # shellcheck disable=SC2086
    *) filter=$(printf 'rdeps(=%s) + ' $CHANGED | sed 's/ + $//') ;;
  esac
  cargo testbed test --no-doc -E "$filter"
}
