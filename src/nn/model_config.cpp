#include "segmamba/nn/model_config.h"

namespace segmamba::nn {

void ModelConfig::visit(ConfigVisitor& visitor) {
  visitor.value({.name = "name", .help = "Network", .choices = model_names()}, name);
  visitor.value({.name = "encoder",
                 .help = "tom: published code; bidirectional: its first release; paper: Eq. 1",
                 .choices = {"tom", "bidirectional", "paper"}},
                encoder);
  visitor.value({.name = "in_channels", .help = "Modalities of a case", .min = 1, .max = 4096},
                in_channels);
  visitor.value({.name = "out_channels",
                 .help = "Classes, background included, or data.regions",
                 .min = 1,
                 .max = 65536},
                out_channels);
  visitor.value({.name = "dims",
                 .help = "Channels of each stage; each stage halves the resolution",
                 .min = 1,
                 .max = 65536,
                 .min_items = 1,
                 .max_items = 8},
                dims);
  visitor.value({.name = "depths",
                 .help = "Mamba layers of each stage",
                 .min = 1,
                 .max = 1024,
                 .min_items = 1,
                 .max_items = 8},
                depths);
  visitor.value({.name = "hidden_size",
                 .help = "Channels at the bottom of the decoder",
                 .min = 1,
                 .max = 65536},
                hidden_size);
  visitor.value({.name = "deep_supervision",
                 .help = "Train outputs at the coarser resolutions of the decoder, too"},
                deep_supervision);
  visitor.value({.name = "mlp_ratio",
                 .help = "Hidden over plain channels of the MLPs (encoder paper)",
                 .min = 1,
                 .max = 64},
                mlp_ratio);
  visitor.value({.name = "directions",
                 .help = "Scan orders, summed (encoder paper)",
                 .choices = {"forward", "reverse", "inter-slice"},
                 .min_items = 1,
                 .max_items = 3},
                directions);
  visitor.value({.name = "downsample_norm",
                 .help = "Norm before a down-sampling convolution (encoder paper)",
                 .choices = {"layer", "instance", "none"}},
                downsample_norm);
}

}  // namespace segmamba::nn
