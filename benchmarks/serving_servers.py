"""Servers that `serving.py` compares Modelship with: `python serving_servers.py KIND MODEL PORT`, in an environment of its own.

Both take KServe v2's JSON by column names and give its answer, in as few lines as people write.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime as ort


def session(path: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def fastapi(path: str, port: int) -> None:
    """Lean: the body as it is, orjson, the session in the event loop, no models of pydantic."""
    import orjson
    import uvicorn
    from fastapi import FastAPI, Request, Response

    model, app = session(path), FastAPI()

    @app.post("/v2/models/m/infer")
    async def infer(request: Request) -> Response:
        columns = orjson.loads(await request.body())["inputs"]
        numbers = np.array([column["data"] for column in columns], dtype=np.float32).T
        probabilities, labels = model.run(["probabilities", "label"], {"numbers": numbers})
        outputs = [
            {"name": "probabilities", "datatype": "FP32", "shape": probabilities.shape, "data": probabilities.ravel().tolist()},
            {"name": "label", "datatype": "BYTES", "shape": labels.shape, "data": labels.tolist()},
        ]
        answer = {"model_name": "m", "model_version": "1", "outputs": outputs}
        return Response(orjson.dumps(answer), media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def kserve(path: str, port: int) -> None:
    """KServe's Python server with a model of two methods."""
    import kserve as library

    class OnnxModel(library.Model):  # type: ignore[misc]
        def load(self) -> bool:
            self.session, self.ready = session(path), True
            return True

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
            numbers = np.concatenate([column.as_numpy() for column in payload.inputs], axis=1)
            probabilities, labels = self.session.run(["probabilities", "label"], {"numbers": numbers})
            outputs = [
                library.InferOutput("probabilities", list(probabilities.shape), "FP32", probabilities.ravel().tolist()),
                library.InferOutput("label", list(labels.shape), "BYTES", labels.tolist()),
            ]
            return library.InferResponse(response_id="1", model_name="m", infer_outputs=outputs)

    model = OnnxModel("m")
    model.load()
    library.ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None).start([model])


if __name__ == "__main__":
    {"fastapi": fastapi, "kserve": kserve}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
