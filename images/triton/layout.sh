#!/bin/bash
# Lays Triton out as /opt/tritonserver from the wheel that carries it, with the Python-based backend `onnxruntime`.
#
#   layout.sh DESTINATION BACKEND_FILE      e.g. layout.sh /opt/tritonserver onnxruntime_backend.py
#
# Run by the Dockerfile beside it and by the integration tests, so that both have the same server. The stub embeds the
# Python whose `python3` runs this script, isolated: it reads no PYTHON* variable and finds packages beside model.py.
set -euo pipefail
destination=$1 backend_file=$2
here=$(dirname "$(realpath "$0")")
pip=(python3 -m pip --disable-pip-version-check --quiet --no-cache-dir)
fetch=(--no-deps --only-binary :all: --require-hashes)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${pip[@]}" download "${fetch[@]}" --dest "$work" --requirement "$here/server.txt"
python3 -m zipfile -e "$work"/nvidia_pytriton-*.whl "$work/wheel"
server=$work/wheel/pytriton/tritonserver

python_minor=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
stub=$server/python_backend_stubs/$python_minor/triton_python_backend_stub
if [[ ! -f $stub ]]; then
  echo "layout.sh: no python backend stub for Python $python_minor in the wheel; run this with a python3 that it has one for" >&2
  exit 1
fi

mkdir -p "$destination"/{bin,lib,backends/python,backends/onnxruntime}
cp "$server/bin/tritonserver" "$destination/bin/"
cp "$work"/wheel/nvidia_pytriton.libs/* "$destination/lib/"
rm "$destination"/lib/libpython* # of another minor version: the stub takes the system's
# Copies, not links: Triton refuses a backend that resolves outside its own folder.
cp "$server"/backends/python/{libtriton_python.so,triton_python_backend_utils.py} "$stub" "$destination/backends/python/"
chmod 0755 "$destination/bin/tritonserver" "$destination/backends/python/triton_python_backend_stub"
"${pip[@]}" install "${fetch[@]}" --target "$destination/backends/onnxruntime" --requirement "$here/backend.txt"
cp "$backend_file" "$destination/backends/onnxruntime/model.py"
