"""What the API accepts and refuses, as one table: the API server and `modelship validate` must both agree with it."""

from __future__ import annotations

from typing import NamedTuple

from modelship_operator.api.labels import LABEL_KEYS
from modelship_operator.api.pod import FREE_KEYS, FREE_NAME, FREE_PATH
from modelship_trainer.recipe import IS_BUNDLED, NO_LOGIN_IN_SOURCE, NO_WAY_UP
from tests.support.builders import DIGEST, LEFT_OUT, Json, changed, make_deployment, make_evaluation, make_training

POD: Json = {
    "labels": {"sidecar.istio.io/inject": "false", "cost-centre": "42"},
    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    "serviceAccountName": "trainer",
    "imagePullSecrets": ["registry"],
    "env": [
        {"name": "HF_HOME", "value": "/cache"},
        {"name": "LICENCE", "secret": {"name": "licence", "key": "key"}},
        {"name": "https_proxy", "configMap": {"name": "proxy", "key": "url"}},
    ],
    "caBundle": {"configMap": "corp-ca", "key": "ca-bundle.crt"},
    "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128", "noProxy": [".corp.example"]},
    "volumes": [
        {"mountPath": "/cache", "claim": "cache", "subPath": "hub"},
        {"mountPath": "/etc/app", "configMap": "settings", "readOnly": True},
        {"mountPath": "/etc/tls", "secret": "tls", "readOnly": True},
        {"mountPath": "/scratch", "emptyDir": {"sizeLimit": "10Gi", "inMemory": True}},
    ],
    "sharedMemory": "1Gi",
    "ephemeralStorage": "20Gi",
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a100", "h100"]}]}]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 10,
                    "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}},
                }
            ]
        },
    },
    "topologySpread": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "schedulerName": "volcano",
    "runtimeClassName": "gvisor",
    "runAs": {"user": 1000, "group": 1000, "fsGroup": 2000},
}
"""Everything that `compute.pod` takes."""
TRAINING, EVALUATION, DEPLOYMENT = make_training(), make_evaluation(), make_deployment()
IN_A_POD, SERVED_IN_A_POD = (changed(each, {"spec.compute.pod": POD}) for each in (TRAINING, DEPLOYMENT))
LONG = "x" * 3000


class RuleCase(NamedTuple):
    """A CEL rule, by its message: a resource that keeps it and one that breaks it, at this field."""

    message: str
    field: str
    accepted: Json
    refused: Json


class Refused(NamedTuple):
    """A resource that the schema alone refuses, naming this field."""

    id: str
    field: str
    resource: Json


QUANTITIES = {
    "cpu": [0.5, 2, 1.25, "0.5", ".5", "2.", "+2", "500m", "1500000u", "250000000n", "0.0005k", "1e-1", "2E0", "1k", "007"],
    "memory": [
        2147483648, 1e9, 2.5e9, 1234567.5, "1e9", "1E", "12E6", "5e+6", "2097152Ki", "2000000k", "2G", "0.5Gi", "1.5Ti",
        "1048576", "0001048576", "128974848000m", "2000000000000u", "1P", "1Pi",
    ],
}  # fmt: skip
"""Each is taken, as it is by Kubernetes in a pod's resources."""


class Change(NamedTuple):
    """An update of a resource that exists; refused, naming this field, unless `field` is None."""

    id: str
    field: str | None
    before: Json
    after: Json


def _rule(message: str, field: str, base: Json, good: Json, bad: Json) -> RuleCase:
    return RuleCase(message, field, changed(base, good), changed(base, bad))


def _steps(**step: Json) -> Json:
    return {"spec.data.preprocessing": [step]}


def _artifact(uri: str = "pvc://models/artifacts/sha256-0", digest: str = DIGEST) -> Json:
    return {"spec.modelRef": {"artifact": {"uri": uri, "digest": digest}}}


def _tolerates(key: str) -> Json:
    return {"spec.compute.tolerations": [{"key": key, "operator": "Exists"}]}


_OPTIMIZER = "spec.training.optimizer"
_STEP_NAMES = "dropDuplicates, dropMissing, impute, clip, cast, log, oneHot, ordinal, tokenize, normalize"

RULES = [
    # unions
    _rule(
        "set exactly one of linear, mlp, cnn, custom",
        "spec.model",
        TRAINING,
        {"spec.model": {"linear": {}}},
        {"spec.model": {"linear": {}, "mlp": {}}},
    ),
    _rule(
        "set exactly one of gradientDescent, sgd, adam, adamw",
        _OPTIMIZER,
        TRAINING,
        {_OPTIMIZER: {"gradientDescent": {}}},
        {_OPTIMIZER: {}},
    ),
    _rule(
        "set exactly one of constant, step, exponential, cosine",
        "spec.training.schedule",
        TRAINING,
        {"spec.training.schedule": {"cosine": {"finalFraction": 0.1}}},
        {"spec.training.schedule": {"cosine": {}, "step": {}}},
    ),
    _rule(
        f"set exactly one of {_STEP_NAMES}",
        "spec.data.preprocessing[0]",
        TRAINING,
        _steps(normalize={}),
        _steps(normalize={}, dropMissing={}),
    ),
    _rule(
        "set exactly one of holdout, kFold",
        "spec.method",
        EVALUATION,
        {"spec.method": {"holdout": {}}},
        {"spec.method": {"holdout": {}, "kFold": {}}},
    ),
    _rule(
        "set exactly one of training, artifact",
        "spec.modelRef",
        DEPLOYMENT,
        _artifact(),
        {"spec.modelRef": {}},
    ),
    # the recipe
    _rule(
        "validation + test must leave rows to train on: their sum must be below 1",
        "spec.data.split",
        TRAINING,
        {"spec.data.split": {"validation": 0.4, "test": 0.5}},
        {"spec.data.split": {"validation": 0.5, "test": 0.5}},
    ),
    _rule(
        "strategy constant needs value",
        "spec.data.preprocessing[0].impute",
        TRAINING,
        _steps(impute={"strategy": "constant", "value": "0"}),
        _steps(impute={"strategy": "constant"}),
    ),
    _rule(
        "value needs strategy constant",
        "spec.data.preprocessing[0].impute",
        TRAINING,
        _steps(impute={"strategy": "median"}),
        _steps(impute={"strategy": "median", "value": "0"}),
    ),
    _rule(
        NO_LOGIN_IN_SOURCE.message,
        "spec.data",
        TRAINING,
        {"spec.data.source": "https://data.example/a@b.csv?user=a@b"},
        {"spec.data.source": "https://ada:s3cret@data.example/churn.csv"},
    ),
    _rule(
        "credentialsSecret needs a source of https://",
        "spec.data",
        TRAINING,
        {"spec.data.credentialsSecret": "login", "spec.data.source": "https://data.example/churn.csv"},
        {"spec.data.credentialsSecret": "login", "spec.data.source": "pvc://datasets/churn.csv"},
    ),
    _rule(
        "image needs format imageFolder",
        "spec.data",
        TRAINING,
        {"spec.data.image": {"size": 16}, "spec.data.format": "imageFolder"},
        {"spec.data.image": {"size": 16}, "spec.data.format": "csv"},
    ),
    _rule(
        IS_BUNDLED.rule.message,
        "spec.data.source",
        TRAINING,
        {"spec.data.source": "sklearn://breast_cancer"},
        {"spec.data.source": "sklearn://digit"},
    ),
    _rule(
        NO_WAY_UP.rule.message,
        "spec.data.source",
        TRAINING,
        {"spec.data.source": "pvc://datasets/..2024/churn..csv"},
        {"spec.data.source": "pvc://datasets/../churn.csv"},
    ),
    _rule(
        "csv needs format csv",
        "spec.data",
        TRAINING,
        {"spec.data.csv": {"separator": ";", "decimal": ","}, "spec.data.format": "csv"},
        {"spec.data.csv": {"separator": ";"}, "spec.data.format": "parquet"},
    ),
    _rule(
        "separator and decimal must differ: with decimal ',', set separator, such as ';'",
        "spec.data.csv",
        TRAINING,
        {"spec.data.csv": {"separator": "\t", "decimal": ",", "quote": "none", "encoding": "latin-1"}},
        {"spec.data.csv": {"decimal": ","}},
    ),
    _rule(
        "separator and quote must differ",
        "spec.data.csv",
        TRAINING,
        {"spec.data.csv": {"separator": "'"}},
        {"spec.data.csv": {"separator": "'", "quote": "'"}},
    ),
    _rule(
        "types needs columns, and images have none",
        "spec.data",
        TRAINING,
        {"spec.data.types": {"zip": "text"}, "spec.data.format": "csv"},
        {"spec.data.types": {"zip": "text"}, "spec.data.format": "imageFolder"},
    ),
    _rule(
        "format, image and csv have no effect with a source of sklearn://: leave them out",
        "spec.data",
        TRAINING,
        {"spec.data.source": "sklearn://digits"},
        {"spec.data.source": "sklearn://digits", "spec.data.format": "npz"},
    ),
    _rule(
        "features must not contain the target: leave it out of features",
        "spec.data",
        TRAINING,
        {"spec.data.features": ["age", "income"]},
        {"spec.data.features": ["age", "churned"]},
    ),
    _rule(
        "lowerQuantile must be below upperQuantile",
        "spec.data.preprocessing[0].clip",
        TRAINING,
        _steps(clip={"lowerQuantile": 0.1, "upperQuantile": 0.9}),
        _steps(clip={"lowerQuantile": 0.995}),
    ),
    _rule(
        "channels must be 1 (grey) or 3 (RGB)",
        "spec.data.image",
        TRAINING,
        {"spec.data.image": {"channels": 1}},
        {"spec.data.image": {"channels": 2}},
    ),
    _rule(
        "kernelSize must be odd, so that a block keeps the image's centre",
        "spec.model.cnn",
        TRAINING,
        {"spec.model": {"cnn": {"kernelSize": 5}}, "spec.data.source": "sklearn://digits"},
        {"spec.model": {"cnn": {"kernelSize": 4}}, "spec.data.source": "sklearn://digits"},
    ),
    _rule(
        "nesterov needs momentum above 0",
        f"{_OPTIMIZER}.sgd",
        TRAINING,
        {_OPTIMIZER: {"sgd": {"nesterov": True, "momentum": 0.9}}},
        {_OPTIMIZER: {"sgd": {"nesterov": True}}},
    ),
    _rule(
        "warmupEpochs must be below epochs: lower it, or raise epochs",
        "spec.training",
        TRAINING,
        {"spec.training.warmupEpochs": 1},
        {"spec.training.warmupEpochs": 2},
    ),
    _rule(
        "earlyStopping.metric must be of the task: classification: val_loss, val_accuracy, val_precision, val_recall, val_f1, "
        "val_roc_auc, val_log_loss; regression: val_loss, val_mae, val_rmse, val_r2",
        "spec.training",
        TRAINING,
        {"spec.training.earlyStopping": {"metric": "val_mae"}, "spec.training.task": "regression"},
        {"spec.training.earlyStopping": {"metric": "val_mae"}},
    ),
    _rule(
        "accumulateBatches has no effect with optimizer.gradientDescent, whose steps are of all rows: leave it out",
        "spec.training",
        TRAINING,
        {"spec.training.accumulateBatches": 2},
        {"spec.training.accumulateBatches": 2, _OPTIMIZER: {"gradientDescent": {}}},
    ),
    _rule(
        "model.cnn needs images, and data is a table: use model.mlp, or set data.format to imageFolder or npz",
        "spec",
        TRAINING,
        {"spec.model": {"cnn": {}}, "spec.data.source": "https://data.example/shoes.npz?from=shoes.csv"},
        {"spec.model": {"cnn": {}}},
    ),
    _rule(
        "data.split.stratify needs training.task classification",
        "spec",
        TRAINING,
        {"spec.data.split.stratify": True},
        {"spec.data.split.stratify": True, "spec.training.task": "regression"},
    ),
    _rule(
        "training.earlyStopping needs data.split.validation above 0",
        "spec",
        TRAINING,
        {"spec.training.earlyStopping": {}},
        {"spec.training.earlyStopping": {}, "spec.data.split.validation": 0},
    ),
    _rule(
        "data.source: a pod has no files of your machine; use pvc://claim/path, https://... or sklearn://name",
        "spec",
        TRAINING,
        {"spec.data.source": "sklearn://digits"},
        {"spec.data.source": "file:///home/me/churn.csv"},
    ),
    # compute
    _rule(
        "a toleration without key needs operator Exists",
        "spec.compute.tolerations[0]",
        TRAINING,
        {"spec.compute.tolerations": [{"operator": "Exists"}]},
        {"spec.compute.tolerations": [{"value": "gpu"}]},
    ),
    _rule(
        "value needs operator Equal",
        "spec.compute.tolerations[0]",
        EVALUATION,
        {"spec.compute.tolerations": [{"key": "gpu", "value": "yes"}]},
        {"spec.compute.tolerations": [{"key": "gpu", "value": "yes", "operator": "Exists"}]},
    ),
    _rule(
        "tolerationSeconds needs effect NoExecute",
        "spec.compute.tolerations[0]",
        DEPLOYMENT,
        {"spec.compute.tolerations": [{"key": "gpu", "effect": "NoExecute", "tolerationSeconds": 60}]},
        {"spec.compute.tolerations": [{"key": "gpu", "effect": "NoSchedule", "tolerationSeconds": 60}]},
    ),
    _rule(
        LABEL_KEYS.rule.message,
        "spec.compute.nodeSelector",
        TRAINING,
        {"spec.compute.nodeSelector": {"disktype": "ssd", "topology.kubernetes.io/zone": "a"}},
        {"spec.compute.nodeSelector": {"disk type": "ssd"}},
    ),
    # compute.pod
    _rule(
        FREE_KEYS.rule.message,
        "spec.compute.pod.labels",
        TRAINING,
        {"spec.compute.pod": POD},
        {"spec.compute.pod": {"labels": {"modelship.dev/name": "other"}}},
    ),
    _rule(
        FREE_KEYS.rule.message,
        "spec.compute.pod.annotations",
        DEPLOYMENT,
        {"spec.compute.pod": POD},
        {"spec.compute.pod": {"annotations": {"container.apparmor.security.beta.kubernetes.io/triton": "unconfined"}}},
    ),
    _rule(
        FREE_NAME.rule.message,
        "spec.compute.pod.env[0].name",
        EVALUATION,
        {"spec.compute": {"pod": POD}},
        {"spec.compute": {"pod": {"env": [{"name": "MODELSHIP_TASK", "value": "{}"}]}}},
    ),
    _rule(
        "set exactly one of value, secret, configMap",
        "spec.compute.pod.env[0]",
        TRAINING,
        {"spec.compute.pod": {"env": [{"name": "EMPTY", "value": ""}]}},
        {"spec.compute.pod": {"env": [{"name": "A", "value": "b", "secret": {"name": "s", "key": "k"}}]}},
    ),
    _rule(
        "set exactly one of claim, configMap, secret, emptyDir",
        "spec.compute.pod.volumes[0]",
        TRAINING,
        {"spec.compute.pod": {"volumes": [{"mountPath": "/cache", "emptyDir": {}}]}},
        {"spec.compute.pod": {"volumes": [{"mountPath": "/cache"}]}},
    ),
    _rule(
        FREE_PATH.rule.message,
        "spec.compute.pod.volumes[0].mountPath",
        DEPLOYMENT,
        {"spec.compute.pod": {"volumes": [{"mountPath": "/models-of-ours", "claim": "c"}]}},
        {"spec.compute.pod": {"volumes": [{"mountPath": "/models/churn", "claim": "c"}]}},
    ),
    _rule(
        "platform chooses user, group and fsGroup: leave them out",
        "spec.compute.pod.runAs",
        TRAINING,
        {"spec.compute.pod": {"runAs": {"platform": True}}},
        {"spec.compute.pod": {"runAs": {"platform": True, "fsGroup": 1000}}},
    ),
    # evaluations
    _rule(
        "a gate needs min, max or maxRegression",
        "spec.gates[0]",
        EVALUATION,
        {"spec.gates": [{"metric": "log_loss", "max": 0.4}]},
        {"spec.gates": [{"metric": "log_loss"}]},
    ),
    _rule(
        "min must not be above max",
        "spec.gates[0]",
        EVALUATION,
        {"spec.gates": [{"metric": "f1", "min": 0.5, "max": 0.5}]},
        {"spec.gates": [{"metric": "f1", "min": 0.6, "max": 0.5}]},
    ),
    _rule(
        "accuracy, precision, recall, f1, roc_auc are between 0 and 1: write 0.80 for 80 %",
        "spec.gates[0]",
        EVALUATION,
        {"spec.gates": [{"metric": "accuracy", "min": 0, "max": 1, "maxRegression": 1}], "spec.baselineRef": {"evaluation": "a"}},
        {"spec.gates": [{"metric": "accuracy", "min": 80}]},
    ),
    _rule(
        "log_loss, mae, rmse are never below 0: min and max must be 0 or more",
        "spec.gates[0]",
        EVALUATION,
        {"spec.gates": [{"metric": "log_loss", "max": 2}]},
        {"spec.gates": [{"metric": "log_loss", "max": -0.5}]},
    ),
    _rule(
        "r2 is at most 1: write 0.80 for 80 %",
        "spec.gates[0]",
        EVALUATION,
        {"spec.metrics": ["r2"], "spec.gates": [{"metric": "r2", "min": -1}]},
        {"spec.metrics": ["r2"], "spec.gates": [{"metric": "r2", "min": 80}]},
    ),
    _rule(
        "a metric with the same statistic must not be there twice",
        "spec.gates",
        EVALUATION,
        {"spec.gates": [{"metric": "accuracy", "min": 0.8}, {"metric": "accuracy", "statistic": "test", "min": 0.7}]},
        {"spec.gates": [{"metric": "accuracy", "min": 0.8}, {"metric": "accuracy", "statistic": "mean", "max": 0.9}]},
    ),
    _rule(
        "gates with statistic lowerBound, upperBound or worst need method.kFold",
        "spec",
        EVALUATION,
        {"spec.gates[0].statistic": "lowerBound"},
        {"spec.gates[0].statistic": "lowerBound", "spec.method": {"holdout": {}}},
    ),
    _rule(
        "gates with maxRegression need baselineRef",
        "spec",
        EVALUATION,
        {"spec.gates[0].maxRegression": 0.01, "spec.baselineRef": {"evaluation": "last-year"}},
        {"spec.gates[0].maxRegression": 0.01},
    ),
    _rule(
        "baselineRef needs a gate with maxRegression",
        "spec",
        EVALUATION,
        {"spec.gates[0].maxRegression": 0.01, "spec.baselineRef": {"evaluation": "last-year"}},
        {"spec.baselineRef": {"evaluation": "last-year"}},
    ),
    _rule(
        "modelRef.artifact needs data and method.holdout: what it was trained on is known of a training only",
        "spec",
        EVALUATION,
        {**_artifact(), "spec.data": {"source": "pvc://datasets/new.csv"}, "spec.method": {"holdout": {}}},
        {**_artifact(), "spec.method": {"holdout": {}}},
    ),
    _rule(
        "credentialsSecret needs a source of https://",
        "spec.data",
        EVALUATION,
        {"spec.data": {"source": "https://data.example/new.csv", "credentialsSecret": "login"}, "spec.method": {"holdout": {}}},
        {"spec.data": {"source": "pvc://datasets/new.csv", "credentialsSecret": "login"}, "spec.method": {"holdout": {}}},
    ),
    _rule(
        "data needs method.holdout: folds are cut from the training's own data",
        "spec",
        EVALUATION,
        {"spec.data": {"source": "pvc://datasets/new.csv"}, "spec.method": {"holdout": {}}},
        {"spec.data": {"source": "pvc://datasets/new.csv"}},
    ),
    _rule(
        "metrics and gates must be of one task: classification: accuracy, precision, recall, f1, roc_auc, log_loss; "
        "regression: mae, rmse, r2",
        "spec",
        EVALUATION,
        {"spec.metrics": ["mae", "r2"], "spec.gates": [{"metric": "rmse", "max": 3}]},
        {"spec.metrics": ["mae", "r2"]},
    ),
    # deployments
    _rule(
        "maxSurge and maxUnavailable must not both be 0",
        "spec.strategy.rollingUpdate",
        DEPLOYMENT,
        {"spec.strategy.rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        {"spec.strategy.rollingUpdate": {"maxSurge": 0}},
    ),
    _rule(
        "a peer needs namespaces or podLabels",
        "spec.access.from[0]",
        DEPLOYMENT,
        {"spec.access.from": [{"podLabels": {"app": "shop"}}]},
        {"spec.access.from": [{}]},
    ),
]


def _refused(id: str, base: Json, field: str, value: object) -> Refused:
    return Refused(id, field, changed(base, {field: value}))


REFUSED = [
    # unknown fields
    _refused("unknown field", TRAINING, "spec.model.mlp.hiden", [8]),
    _refused("unknown field of the spec", EVALUATION, "spec.gate", []),
    _refused("unknown field in a list", EVALUATION, "spec.gates[0].minimum", 0.5),
    _refused("snake case", TRAINING, "spec.training.batch_size", 8),
    _refused("unknown field of the resource", DEPLOYMENT, "sepc", {}),
    _refused("a variant that does not exist", TRAINING, "spec.training.optimizer.lion", {}),
    # missing
    _refused("no spec", TRAINING, "spec", LEFT_OUT),
    _refused("no data", TRAINING, "spec.data", LEFT_OUT),
    _refused("no task", TRAINING, "spec.training.task", LEFT_OUT),
    _refused("no method", EVALUATION, "spec.method", LEFT_OUT),
    _refused("no model", DEPLOYMENT, "spec.modelRef", LEFT_OUT),
    _refused("null is as left out", TRAINING, "spec.data.source", None),
    # wrong type
    _refused("text for a number", TRAINING, "spec.training.epochs", "12"),
    _refused("fraction for a whole number", TRAINING, "spec.training.batchSize", 1.5),
    _refused("number for text", TRAINING, "spec.data.target", 7),
    _refused("true for text", TRAINING, "spec.data.target", True),
    _refused("two characters for a separator", TRAINING, "spec.data.csv.separator", ";;"),
    _refused("a letter for a separator", TRAINING, "spec.data.csv.separator", "t"),
    _refused("a line break for a separator", TRAINING, "spec.data.csv.separator", "\n"),
    _refused("no separator", TRAINING, "spec.data.csv.separator", ""),
    _refused("another quote", TRAINING, "spec.data.csv.quote", "`"),
    _refused("another decimal mark", TRAINING, "spec.data.csv.decimal", ";"),
    _refused("another encoding", TRAINING, "spec.data.csv.encoding", "ebcdic"),
    _refused("another type of a column", TRAINING, "spec.data.types.age", "date"),
    _refused("no types", TRAINING, "spec.data.types", {}),
    _refused("text for a flag", TRAINING, "spec.suspend", "yes"),
    _refused("list for an object", TRAINING, "spec.model.mlp", []),
    _refused("object for a list", EVALUATION, "spec.gates", {"metric": "f1"}),
    _refused("flag for a quantity", DEPLOYMENT, "spec.compute.cpu", True),
    _refused("no for a quantity", DEPLOYMENT, "spec.compute.memory", False),
    _refused("object for a quantity", TRAINING, "spec.compute.cpu", {}),
    _refused("fields for a quantity", TRAINING, "spec.compute.cpu", {"cores": 2}),
    _refused("list for a quantity", EVALUATION, "spec.compute.memory", []),
    _refused("items for a quantity", EVALUATION, "spec.compute.memory", ["2Gi"]),
    _refused("empty quantity", TRAINING, "spec.compute.memory", ""),
    _refused("number in a map of texts", TRAINING, "spec.compute.nodeSelector.pool", 3),
    # out of range
    _refused("too few", TRAINING, "spec.training.epochs", 0),
    _refused("too many", EVALUATION, "spec.method.kFold.folds", 21),
    _refused("exclusive bound", TRAINING, "spec.training.optimizer.sgd.learningRate", 0),
    _refused("exclusive upper bound", TRAINING, "spec.model.mlp.dropout", 1),
    _refused("empty list", TRAINING, "spec.model.mlp.hidden", []),
    _refused("element out of range", TRAINING, "spec.model.mlp.hidden[0]", 0),
    _refused("list too long", TRAINING, "spec.model.mlp.hidden", [8] * 17),
    _refused("map too large", TRAINING, "spec.compute.nodeSelector", {f"k{i}": "v" for i in range(33)}),
    _refused("text too long", TRAINING, "spec.data.target", LONG),
    _refused("no such metric", EVALUATION, "spec.metrics[0]", "acuracy"),
    Refused(
        "no such strategy", "spec.data.preprocessing[0].impute.strategy", changed(TRAINING, _steps(impute={"strategy": "mode"}))
    ),
    _refused("no CPU", TRAINING, "spec.compute.cpu", "0"),
    _refused("no cores", TRAINING, "spec.compute.cpu", 0),
    _refused("two bytes of memory", EVALUATION, "spec.compute.memory", 2),
    _refused("less than no cores", TRAINING, "spec.compute.cpu", -1),
    _refused("text of no cores", TRAINING, "spec.compute.cpu", "0.000m"),
    _refused("less than no memory", TRAINING, "spec.compute.memory", "-2Gi"),
    _refused("text of a few bytes", TRAINING, "spec.compute.memory", "512"),
    _refused("quantity with a blank", TRAINING, "spec.compute.memory", "2 Gi"),
    _refused("quantity beyond all", TRAINING, "spec.compute.memory", 1e19),
    _refused("memory in no unit", DEPLOYMENT, "spec.compute.memory", "2GB"),
    _refused("resource without a domain", TRAINING, "spec.compute.accelerator.resource", "gpu"),
    _refused("resource of no device", TRAINING, "spec.compute.accelerator.resource", "nvidia..com/gpu"),
    _refused("priority class in capitals", TRAINING, "spec.compute.priorityClassName", "Urgent"),
    Refused("toleration of no taint", "spec.compute.tolerations[0].key", changed(TRAINING, _tolerates("gpu only"))),
    Refused("key of a taint without a name", "spec.compute.tolerations[0].key", changed(TRAINING, _tolerates("nvidia.com/"))),
    _refused("key of a node's label too long", EVALUATION, "spec.compute.nodeSelector", {"k" * 64: "v"}),
    _refused("domain of a node's label", DEPLOYMENT, "spec.compute.nodeSelector", {"Example.com/pool": "v"}),
    Refused(
        "label of a peer",
        "spec.access.from[0].podLabels",
        changed(DEPLOYMENT, {"spec.access.from": [{"podLabels": {"/app": "a"}}]}),
    ),
    _refused("secret of no name", TRAINING, "spec.data.credentialsSecret", "a..b"),
    _refused("no accelerators", DEPLOYMENT, "spec.compute.accelerator.count", 0),
    _refused("too many replicas", DEPLOYMENT, "spec.replicas", 1001),
    Refused("no digest", "spec.modelRef.artifact.digest", changed(DEPLOYMENT, _artifact(digest="latest"))),
    _refused("name in capitals", DEPLOYMENT, "metadata.name", "Churn"),
    _refused("name that cannot be a Service's", DEPLOYMENT, "metadata.name", "1st-model"),
    _refused("name too long", TRAINING, "metadata.name", "a" * 53),
    # compute.pod
    _refused("host path", IN_A_POD, "spec.compute.pod.volumes[0].hostPath", "/"),
    _refused("host network", IN_A_POD, "spec.compute.pod.hostNetwork", True),
    _refused("privileged", SERVED_IN_A_POD, "spec.compute.pod.runAs.privileged", True),
    _refused("root", IN_A_POD, "spec.compute.pod.runAs.user", 0),
    _refused("folder of no path", IN_A_POD, "spec.compute.pod.volumes[0].mountPath", "cache"),
    _refused("the whole file system", IN_A_POD, "spec.compute.pod.volumes[0].mountPath", "/"),
    _refused("a way around", SERVED_IN_A_POD, "spec.compute.pod.volumes[0].mountPath", "/a/../models"),
    _refused("variable of no name", IN_A_POD, "spec.compute.pod.env[0].name", "A-B"),
    _refused("login in a proxy", IN_A_POD, "spec.compute.pod.proxy.https", "http://ada:s3cret@proxy:3128"),
    _refused("affinity that is a list", IN_A_POD, "spec.compute.pod.affinity", []),
    _refused("label of a pod", IN_A_POD, "spec.compute.pod.labels", {"a b": "c"}),
    Refused(
        "variable twice",
        "spec.compute.pod.env",
        changed(TRAINING, {"spec.compute.pod": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}),
    ),
    Refused(
        "folder twice",
        "spec.compute.pod.volumes",
        changed(
            TRAINING, {"spec.compute.pod": {"volumes": [{"mountPath": "/a", "claim": "b"}, {"mountPath": "/a", "claim": "c"}]}}
        ),
    ),
    # places
    _refused("scheme", TRAINING, "spec.data.source", "s3://bucket/churn.csv"),
    _refused("store on a laptop", TRAINING, "spec.output.store", "file:///tmp"),
    _refused("data on a laptop", EVALUATION, "spec.data.source", "file:///tmp/a.csv"),
    _refused("way out of the claim, encoded", TRAINING, "spec.data.source", "pvc://datasets/a%2f%2E./b.csv"),
    _refused("store out of its claim", TRAINING, "spec.output.store", "pvc://models/.."),
    Refused(
        "evaluation's data out of its claim",
        "spec.data.source",
        changed(EVALUATION, {"spec.method": {"holdout": {}}, "spec.data": {"source": "pvc://datasets/../churn.csv"}}),
    ),
    Refused(
        "evaluation's data that is not bundled",
        "spec.data.source",
        changed(EVALUATION, {"spec.method": {"holdout": {}}, "spec.data": {"source": "sklearn://digit"}}),
    ),
    Refused("artifact out of its claim", "spec.modelRef.artifact.uri", changed(DEPLOYMENT, _artifact(uri="pvc://models/a/../b"))),
    _refused("claim of no name", TRAINING, "spec.output.store", "pvc://a..b"),
    Refused("artifact on a laptop", "spec.modelRef.artifact.uri", changed(DEPLOYMENT, _artifact(uri="file:///tmp/a"))),
    Refused("entrypoint", "spec.model.custom.entrypoint", changed(TRAINING, {"spec.model": {"custom": {"entrypoint": "a.b"}}})),
    # twice
    _refused("metric twice", EVALUATION, "spec.metrics", ["f1", "f1"]),
    _refused("gate twice", EVALUATION, "spec.gates", [{"metric": "f1", "min": 0.1}, {"metric": "f1", "min": 0.2}]),
    _refused("evaluation twice", DEPLOYMENT, "spec.gate.evaluations", ["a", "a"]),
    _refused("column twice", TRAINING, "spec.data.features", ["age", "age"]),
]


def _change(id: str, field: str | None, base: Json, changes: Json) -> Change:
    return Change(id, field, base, changed(base, changes))


CHANGES = [
    # A run is what it was created as.
    _change("data", "spec.data", TRAINING, {"spec.data.target": "left"}),
    _change("data, deep", "spec.data", TRAINING, _steps(normalize={})),
    _change("model", "spec.model", TRAINING, {"spec.model.mlp.hidden": [16]}),
    _change("model's variant", "spec.model", TRAINING, {"spec.model": {"linear": {}}}),
    Change(
        "arguments of one's own model",
        "spec.model",
        changed(TRAINING, {"spec.model": {"custom": {"entrypoint": "a:b", "args": {"depth": 2, "widths": [1, {"x": None}]}}}}),
        changed(TRAINING, {"spec.model": {"custom": {"entrypoint": "a:b", "args": {"depth": 3, "widths": [1, {"x": None}]}}}}),
    ),
    _change("training", "spec.training", TRAINING, {"spec.training.epochs": 3}),
    _change("compute", "spec.compute", TRAINING, {"spec.compute.cpu": 4}),
    _change("output", "spec.output", TRAINING, {"spec.output.store": "pvc://others"}),
    _change("retryLimit", "spec.retryLimit", TRAINING, {"spec.retryLimit": 0}),
    _change("activeDeadlineSeconds added", "spec.activeDeadlineSeconds", TRAINING, {"spec.activeDeadlineSeconds": 60}),
    Change("activeDeadlineSeconds taken", "spec.activeDeadlineSeconds", make_training(activeDeadlineSeconds=60), TRAINING),
    _change("suspend a training", None, TRAINING, {"spec.suspend": True, "spec.ttlSecondsAfterFinished": 60}),
    _change("a default written out", None, TRAINING, {"spec.compute": {"cpu": "250m"}, "spec.training.batchSize": 32}),
    _change("modelRef", "spec.modelRef", EVALUATION, {"spec.modelRef.training": "other"}),
    _change("method", "spec.method", EVALUATION, {"spec.method.kFold.folds": 5}),
    _change("metrics", "spec.metrics", EVALUATION, {"spec.metrics": ["f1"]}),
    _change("metrics taken", "spec.metrics", EVALUATION, {"spec.metrics": LEFT_OUT}),
    _change("gates", "spec.gates", EVALUATION, {"spec.gates[0].min": 0.7}),
    _change("gates taken", "spec.gates", EVALUATION, {"spec.gates": LEFT_OUT}),
    Change(
        "baselineRef",
        "spec.baselineRef",
        changed(EVALUATION, {"spec.gates[0].maxRegression": 0.01, "spec.baselineRef": {"evaluation": "a"}}),
        changed(EVALUATION, {"spec.gates[0].maxRegression": 0.01, "spec.baselineRef": {"evaluation": "b"}}),
    ),
    Change(
        "data of an evaluation",
        "spec.data",
        make_evaluation(method={"holdout": {}}, data={"source": "pvc://datasets/a.csv"}),
        make_evaluation(method={"holdout": {}}, data={"source": "pvc://datasets/b.csv"}),
    ),
    _change("compute of an evaluation", "spec.compute", EVALUATION, {"spec.compute.memory": "4Gi"}),
    _change("retryLimit of an evaluation", "spec.retryLimit", EVALUATION, {"spec.retryLimit": 0}),
    _change("suspend an evaluation", None, EVALUATION, {"spec.suspend": True, "spec.ttlSecondsAfterFinished": 60}),
    # What is served can change at any time.
    _change("another model", None, DEPLOYMENT, {"spec.modelRef.training": "other", "spec.gate.evaluations": ["other-cv"]}),
    _change("replicas", None, DEPLOYMENT, {"spec.replicas": 3}),
]
