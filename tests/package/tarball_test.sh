#!/usr/bin/env bash
# Unpacks a tarball, or installs what it would hold, and runs the programs in a root that has nothing
# but it and glibc.
#
#   tarball_test.sh TARBALL|BUILD WORK     77: this system does not allow what is needed
set -euo pipefail
source="$1" work=$(realpath -m "$2")
config="$(dirname "$0")/tiny.yaml"

fail() { echo "tarball_test: $*" >&2; exit 1; }

# The kernel's folders are there on any machine. No shell: there is none in the root.
in_root() {
  unshare --user --map-root-user --mount bash -c '
    for folder in proc sys dev; do mount --rbind /$folder "$1/$folder"; done
    cd "$1" && exec chroot "$@"' _ "$work/root" "$@"
}

mkdir -p "$work"
if ! unshare --user --map-root-user --mount true 2>"$work/refused"; then
  echo "skipped: no user namespaces here: $(cat "$work/refused")"
  exit 77
fi

rm -rf "$work/root"
root="$work/root" prefix="/opt/seg mamba"
mkdir -p "$root$prefix"
if [ -f "$source" ]; then
  tar -xf "$source" -C "$root$prefix" --strip-components=1
else
  for component in programs libraries; do
    SEGMAMBA_LINK_LIBRARIES=1 cmake --install "$source" --prefix "$root$prefix" \
      --component "$component" >"$work/$component.log" || fail "see $work/$component.log"
  done
fi
mkdir -p "$root"/{proc,sys,dev,tmp}

# glibc, where the loader looks for it.
ldd "$root$prefix/bin/segmamba-train" |
  grep -oE '/[^ ]*/(ld-linux-[^ ]*|lib(c|m|dl|pthread|rt|util)\.so\.[0-9]+)' | sort -u |
  while read -r file; do
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
  done
mkdir -p "$root/lib64"
[ -e "$root"/lib64/ld-linux-*.so.* ] || cp -L /lib64/ld-linux-*.so.* "$root/lib64/"

echo "== No file names a folder of this machine to load from"
find "$root$prefix" -type f \( -path '*/bin/*' -o -name '*.so*' \) -not -path '*/lib/nvidia/*' -print0 |
  while IFS= read -r -d '' file; do
    paths=$(readelf -d "$file" | sed -nE 's/.*\((RPATH|RUNPATH)\).*\[(.*)\]/\2/p')
    for path in ${paths//:/ }; do
      case "$path" in
        '$ORIGIN' | '$ORIGIN/'*) ;;
        *) fail "$file loads from $path" ;;
      esac
    done
  done

echo "== Every program starts"
for program in "$root$prefix"/bin/*; do
  in_root "$prefix/bin/$(basename "$program")" --version
done

echo "== Data, training, segmentation and scores"
cp "$config" "$root/tmp/tiny.yaml"
in_root "$prefix/bin/segmamba-data" phantom --output /tmp/cases --cases 3 --size 32
in_root "$prefix/bin/segmamba-train" --config /tmp/tiny.yaml --device cpu \
  --set data.root=/tmp/cases --output /tmp/run >"$work/train.log" 2>&1 || fail "$(cat "$work/train.log")"
segment() {
  in_root "$1/bin/segmamba-infer" --checkpoint /tmp/run/checkpoints/last.pt --input /tmp/cases \
    --device cpu --output "$2"
}
segment "$prefix" /tmp/labels
in_root "$prefix/bin/segmamba-eval" --prediction /tmp/labels --reference /tmp/cases \
  --convention segmamba --output /tmp/scores >/dev/null
[ -s "$root/tmp/scores/cases.csv" ] || fail "segmamba-eval wrote no scores"

echo "== It runs as before where it has been moved to, whatever LD_LIBRARY_PATH leads to"
mkdir -p "$root/srv" "$root/tmp/wrong"
mv "$root$prefix" "$root/srv/moved"
for library in libc10.so libstdc++.so.6 libyaml-cpp.so.0.7 libgdcmMSFF.so.3.0; do
  echo "not a library" >"$root/tmp/wrong/$library"
done
LD_LIBRARY_PATH=/tmp/wrong segment /srv/moved /tmp/again
for labels in "$root"/tmp/labels/*.nii.gz; do
  cmp "$labels" "$root/tmp/again/$(basename "$labels")"
done

echo "== The root holds nothing else: a library taken away is missed"
library=$(basename "$root"/srv/moved/lib/libyaml-cpp.so.*)
rm "$root/srv/moved/lib/$library"
message=$(in_root /srv/moved/bin/segmamba-eval --version 2>&1) && fail "it ran without $library"
[[ "$message" == *"$library"* ]] || fail "expected a word on $library, got: $message"

rm -rf "$root"
