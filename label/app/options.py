"""What clients may ask of a task, by name and type: all else is refused, since MONAI evaluates texts in its configs."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from names import Name
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from equivariant_nets.transforms import rotation_augmentation

__all__ = ["InferenceOptions", "Options", "ScoringOptions", "TrainingOptions"]


def _scheme(name: str) -> str:
    rotation_augmentation(name, "image", mode="nearest")
    return name


def _device(name: str) -> str:
    from monailabel.utils.others.generic import device_map

    if name not in device_map() and not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise ValueError(f"There is no device {name!r}; legal are cpu, cuda, cuda:0 and {', '.join(device_map())}.")
    return name


Device = Annotated[str, AfterValidator(_device)]
Gpus = Annotated[str, Field(pattern=r"^(all|\d{1,2}(,\d{1,2})*)$")]


class Options(BaseModel):
    """Of every task. Defaults are not used: what a client does not give, the task decides."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    client_id: str | None = None

    @classmethod
    def read(cls, options: Any) -> dict[str, Any]:
        """The options that a client gave, with the types that they have.

        Raises:
            ValueError: one is unknown, or its value is not legal.
        """
        try:
            return cls.model_validate({} if options is None else options).model_dump(exclude_unset=True)
        except ValidationError as error:
            raise ValueError(" ".join(map(cls._message, error.errors()))) from None

    @classmethod
    def _message(cls, error: Mapping[str, Any]) -> str:
        name = ".".join(map(str, error["loc"])) or "options"
        if error["type"] == "extra_forbidden":
            return f"{name!r} is no option; legal are: {', '.join(cls.model_fields)}."
        return f"{name}: {error['msg']}; got {str(error['input'])[:200]!r}."


class TrainingOptions(Options):
    """Of ``POST /train/MODEL``."""

    device: Device = "cuda"
    pretrained: bool = True
    max_epochs: int = Field(50, ge=1, le=100_000)
    val_split: float = Field(0.2, gt=0, lt=1)
    learning_rate: float = Field(1.0, gt=0, allow_inf_nan=False)
    augmentation: Annotated[str, AfterValidator(_scheme)] = "none"
    multi_gpu: bool = True
    gpus: Gpus = "all"
    model_filename: Name = "model.pt"
    tracking: Literal["None", "mlflow"] = "None"
    tracking_experiment_name: str = Field("", pattern=r"^[\w .-]*$")


class ScoringOptions(Options):
    """Of ``POST /scoring/METHOD``."""

    device: Device = "cuda"
    simulation_size: int = Field(5, ge=2, le=100)
    max_samples: int = Field(0, ge=0)
    max_workers: int = Field(2, ge=0, le=64)


class InferenceOptions(Options):
    """``params`` of ``POST /infer/MODEL``. Lists are clicks, under the name of a label; the bundle checks them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[Any]]

    device: Device = "cuda"
    model_filename: Name = "model.pt"
    logging: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    result_extension: Literal[".nii", ".nii.gz", ".nrrd", ".seg.nrrd"] | None = None
    result_dtype: Literal["uint8", "uint16", "int16", "int32", "float32"] | None = None
    result_compress: bool = False
    save_label: bool = False
    label_tag: Name = "original"
    label: str | None = None
    label_info: list[Any] = []
    selected_label_name: str | None = None
    slice: int | None = None
    reset_state: bool = False

    @model_validator(mode="after")
    def _no_paths(self) -> "InferenceOptions":
        if used := {"image", "image_path", "model", "session", "description"} & set(self.__pydantic_extra__):
            raise ValueError(f"{', '.join(sorted(used))}: these are of the request, and no labels that can be clicked.")
        return self
