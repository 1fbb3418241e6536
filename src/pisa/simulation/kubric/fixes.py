"""Fixes that let Kubric 2023.12 run on Blender 4.2 without TensorFlow.

Kubric uses TensorFlow for `tf.io.gfile` only. Blender 4 dropped the operator
`import_scene.obj` and the mesh property `use_auto_smooth`, which Kubric's object loader names.
"""

from __future__ import annotations

import importlib.machinery
import shutil
import sys
import types


def install() -> None:
    """Make `import kubric` work; call it before that import."""
    _stand_in_for_tensorflow()
    import bpy

    if not hasattr(bpy.types.Mesh, "use_auto_smooth"):
        bpy.types.Mesh.use_auto_smooth = bpy.props.BoolProperty()
    if not hasattr(bpy.types, "IMPORT_SCENE_OT_obj"):
        bpy.utils.register_class(_obj_operator(bpy))


def _stand_in_for_tensorflow() -> None:
    if "tensorflow" in sys.modules:
        return
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    gfile = types.SimpleNamespace(GFile=open, copy=_copy)
    tensorflow.io = types.SimpleNamespace(gfile=gfile)  # type: ignore[attr-defined]
    sys.modules["tensorflow"] = tensorflow


def _copy(source: object, target: object, overwrite: bool = False) -> None:
    shutil.copyfile(str(source), str(target))


def _obj_operator(bpy):
    """The old OBJ operator on top of the new one: axes as they are in the file, one object."""

    class ImportObj(bpy.types.Operator):
        bl_idname = "import_scene.obj"
        bl_label = "Import OBJ"

        filepath: bpy.props.StringProperty()
        use_split_objects: bpy.props.BoolProperty()

        def execute(self, context):
            return bpy.ops.wm.obj_import(
                filepath=self.filepath,
                forward_axis="Y",
                up_axis="Z",
                use_split_objects=False,
                use_split_groups=False,
                validate_meshes=True,
            )

    ImportObj.__annotations__ = {
        "filepath": bpy.props.StringProperty(),
        "use_split_objects": bpy.props.BoolProperty(),
    }
    return ImportObj
