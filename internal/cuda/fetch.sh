#!/bin/sh
# fetch.sh DEST [clang] [headers] [tools] unpacks what the GPU part's builds need out
# of Debian's packages, without installing any: no driver, no diversions, no
# maintainer scripts, no root. Parts that DEST already has are left alone.
#
#   clang    bin/clang-19: CUDA C++ to PTX (this release's own package, about 60 MB)
#   headers  include/cuda.h and an empty lib64/libcuda.a (nvidia-cuda-dev of trixie,
#            934 MB, of which one header is kept)
#   tools    bin/ptxas (nvidia-cuda-toolkit of trixie, 87 MB)
#
# The folder holds cuda.h alone: other headers of the toolkit would shadow
# go-nvml's own. NVIDIA's packages are non-free: they are used, never shipped.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 DEST clang|headers|tools ..." >&2; exit 64; }
for tool in apt-get apt-cache dpkg-deb tar; do
  command -v $tool >/dev/null || { echo "fetch.sh: $tool is missing: it needs a Debian machine" >&2; exit 71; }
done
mkdir -p "$1"
dest=$(cd "$1" && pwd)
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/trixie"

# The mirror that the machine uses already also has the suites it does not name.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
  awk '/^URIs:/ {print $2; exit} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) {print $i; exit}}')
[ -n "$mirror" ] || { echo "fetch.sh: /etc/apt names no Debian mirror" >&2; exit 71; }
cat >"$work/trixie/trixie.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: trixie
Components: main contrib non-free
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES

# isolated SUITE COMMAND ... runs COMMAND with lists, cache and status of its own.
isolated() {
  suite=$1 command=$2
  shift 2
  own="$work/$suite.state"
  mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
  : >>"$own/status"
  sources=
  [ "$suite" = system ] || sources="-oDir::Etc::sourcelist=/dev/null -oDir::Etc::sourceparts=$work/trixie"
  # shellcheck disable=SC2086
  $command -qq -oAPT::Sandbox::User=root -oDir::State::Lists="$own/lists" -oDir::State::status="$own/status" -oDir::Cache="$own/cache" $sources "$@"
}

# updated SUITE reads the suite's package lists once.
updated() {
  [ -e "$work/$1.updated" ] || isolated "$1" apt-get update
  : >"$work/$1.updated"
}

# take SUITE PACKAGE PATTERN ... unpacks the files that match into $work/x.
take() {
  suite=$1 package=$2
  shift 2
  (cd "$work" && isolated "$suite" apt-get download "$package" 2>/dev/null)
  mkdir -p "$work/x"
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar x -C "$work/x" --wildcards "$@"
  rm "$work/$package"_*.deb
}

for part; do
  case $part in
  clang)
    [ -x "$dest/bin/clang-19" ] && continue
    updated system
    # clang's own libraries, and what they need that a small machine may lack.
    for package in clang-19 libclang-cpp19 $(isolated system apt-cache depends --recurse --no-recommends --no-suggests \
      --no-conflicts --no-breaks --no-replaces --no-enhances libllvm19 |
      grep -E '^lib' | grep -vE '^(libc6|libgcc-s1|libstdc\+\+6|libcrypt1)$' | sort -u); do
      take system "$package" './usr/lib/*' './lib/*' 2>/dev/null || true
    done
    mkdir -p "$dest/bin" "$dest/clang/lib"
    # Files before links: a link may have the name of a file in another folder.
    find "$work/x" -type f -name '*.so*' -exec cp {} "$dest/clang/lib/" \;
    find "$work/x" -type l -name '*.so.*' -exec cp -P -n {} "$dest/clang/lib/" \;
    cp "$work/x/usr/lib/llvm-19/bin/clang" "$dest/clang/clang-19"
    cat >"$dest/clang/run" <<'RUN'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$here/lib exec "$here/clang-19" "$@"
RUN
    chmod +x "$dest/clang/run"
    "$dest/clang/run" --version >"$work/version"
    head -1 "$work/version"
    # Last, so that a folder half made is made again.
    ln -sf ../clang/run "$dest/bin/clang-19"
    ;;
  headers)
    [ -e "$dest/include/cuda.h" ] && [ -e "$dest/lib64/libcuda.a" ] && continue
    updated trixie
    take trixie nvidia-cuda-dev './usr/include/cuda.h'
    mkdir -p "$dest/include" "$dest/lib64"
    cp "$work/x/usr/include/cuda.h" "$dest/include/"
    # An archive without members: the linker asks for -lcuda and needs nothing of it.
    ar rcs "$dest/lib64/libcuda.a"
    ;;
  tools)
    [ -x "$dest/bin/ptxas" ] && continue
    updated trixie
    take trixie nvidia-cuda-toolkit './usr/bin/ptxas'
    mkdir -p "$dest/bin"
    cp "$work/x/usr/bin/ptxas" "$dest/bin/"
    "$dest/bin/ptxas" --version | tail -2 | head -1
    ;;
  *)
    echo "fetch.sh: no part $part; there are clang, headers, tools" >&2
    exit 64
    ;;
  esac
done
