#pragma once
// Section `model` of a config. Torch-free.

#include <cstdint>
#include <string>
#include <vector>

#include "segmamba/core/config.h"

namespace segmamba::nn {

// What each network can be asked for beside the channels that go in and come out: one struct a
// network, whose keys have the names of the original's constructor. Lists are per stage, from full
// resolution down.

struct SegMambaOptions {
  // `tom`: the published code (GSC and tri-orientated Mamba); `bidirectional`: its first release;
  // `paper`: Eq. 1 of arXiv 2401.13560.
  std::string encoder = "tom";
  // Channels and Mamba layers of each stage. The stages halve the resolution, so an input's sizes
  // must be multiples of 2^stages.
  std::vector<std::int64_t> dims = {48, 96, 192, 384};
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::int64_t hidden_size = 768;
  // What Eq. 1 of the paper leaves open; read by the encoder `paper` only. The defaults are those
  // of the code's first release.
  std::int64_t mlp_ratio = 4;
  std::vector<std::string> directions = {"forward", "reverse"};
  std::string downsample_norm = "layer";

  void visit(ConfigVisitor& visitor);
};

struct SegResNetOptions {
  std::int64_t init_filters = 16;
  std::int64_t num_groups = 8;
  std::vector<std::int64_t> blocks_down = {1, 2, 2, 4};
  std::vector<std::int64_t> blocks_up = {1, 1, 1};
  std::string upsample_mode = "nontrainable";
  double dropout_prob = 0;

  void visit(ConfigVisitor& visitor);
};

struct UnetrOptions {
  std::vector<std::int64_t> img_size;  // [] in a training config: data.patch_size
  std::int64_t feature_size = 16;
  std::int64_t hidden_size = 768;
  std::int64_t mlp_dim = 3072;
  std::int64_t num_heads = 12;
  std::string proj_type = "conv";
  bool qkv_bias = false;
  bool conv_block = true;
  bool res_block = true;
  bool norm_affine = false;
  double dropout_rate = 0;

  void visit(ConfigVisitor& visitor);
};

struct SwinUnetrOptions {
  std::int64_t feature_size = 48;
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::vector<std::int64_t> num_heads = {3, 6, 12, 24};
  std::vector<std::int64_t> window_size = {7, 7, 7};
  double mlp_ratio = 4;
  bool qkv_bias = true;
  bool normalize = true;
  bool patch_norm = false;
  bool norm_affine = false;
  std::string merging = "merging";
  double drop_rate = 0;
  double attn_drop_rate = 0;
  double dropout_path_rate = 0;

  void visit(ConfigVisitor& visitor);
};

struct UxNetOptions {
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::vector<std::int64_t> feat_size = {48, 96, 192, 384};
  std::int64_t hidden_size = 768;
  bool res_block = true;
  bool norm_affine = false;
  double drop_path_rate = 0;

  void visit(ConfigVisitor& visitor);
};

struct MedNextOptions {
  std::string size = "B";  // S, B, M or L: exp_r and block_counts where these are []
  std::int64_t n_channels = 32;
  std::int64_t kernel_size = 3;
  std::int64_t dec_kernel_size = 0;        // of bottleneck and decoder; 0: kernel_size
  std::vector<std::int64_t> exp_r;         // one number, or nine
  std::vector<std::int64_t> block_counts;  // nine
  bool do_res = true;
  bool do_res_up_down = true;
  std::string norm_type = "group";
  bool grn = false;

  void visit(ConfigVisitor& visitor);
};

struct NnFormerOptions {
  std::vector<std::int64_t> crop_size;  // [] in a training config: data.patch_size
  std::int64_t embedding_dim = 96;
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::vector<std::int64_t> num_heads = {3, 6, 12, 24};
  std::vector<std::int64_t> window_size = {4, 4, 8, 4};
  double drop_path_rate = 0.2;

  void visit(ConfigVisitor& visitor);
};

struct TransBtsOptions {
  std::vector<std::int64_t> img_size;  // [] in a training config: data.patch_size
  std::int64_t base = 16;              // the transformer has 32 times as many channels
  std::int64_t heads = 8;
  std::int64_t layers = 4;
  std::int64_t hidden = 4096;
  std::int64_t group_norm_groups = 8;
  double channel_dropout = 0.2;
  double dropout = 0.1;

  void visit(ConfigVisitor& visitor);
};

// nnU-Net's PlainConvUNet, as a plans file has it.
struct NnUnetOptions {
  std::vector<std::int64_t> features_per_stage = {32, 64, 128, 256, 320, 320};
  // One entry [D, H, W] a stage; a single one stands for all stages.
  std::vector<std::vector<std::int64_t>> kernel_sizes = {{3, 3, 3}};
  // []: 1 in the first stage and 2 in all others.
  std::vector<std::vector<std::int64_t>> strides;
  std::vector<std::int64_t> n_conv_per_stage = {2};          // one number stands for all stages
  std::vector<std::int64_t> n_conv_per_stage_decoder = {2};  // likewise; from the bottom up
  bool conv_bias = true;
  bool norm_affine = true;

  void visit(ConfigVisitor& visitor);
};

// nnU-Net's ResidualEncoderUNet.
struct NnUnetResEncOptions {
  std::vector<std::int64_t> features_per_stage = {32, 64, 128, 256, 320, 320};
  std::vector<std::vector<std::int64_t>> kernel_sizes = {{3, 3, 3}};
  std::vector<std::vector<std::int64_t>> strides;
  std::vector<std::int64_t> n_blocks_per_stage = {1, 3, 4, 6, 6, 6};
  std::vector<std::int64_t> n_conv_per_stage_decoder = {1};
  std::int64_t stem_channels = 0;  // 0: as many as the first stage
  bool conv_bias = true;
  bool norm_affine = true;

  void visit(ConfigVisitor& visitor);
};

struct UMambaOptions : NnUnetOptions {
  std::vector<std::int64_t> input_size;  // umamba_enc; [] in a training config: data.patch_size

  void visit(ConfigVisitor& visitor);
};

struct VimOptions {
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::vector<std::int64_t> feat_size = {48, 96, 192, 384};
  std::int64_t hidden_size = 768;
  std::int64_t d_state = 16;
  std::vector<std::int64_t> pos_grid = {16, 16, 16};
  bool if_divide_out = true;

  void visit(ConfigVisitor& visitor);
};

struct VMambaOptions {
  std::vector<std::int64_t> depths = {2, 2, 2, 2};
  std::vector<std::int64_t> feat_size = {48, 96, 192, 384};
  std::int64_t hidden_size = 768;
  std::int64_t d_state = 1;
  double ssm_ratio = 1;
  double mlp_ratio = 4;
  bool conv_bias = false;

  void visit(ConfigVisitor& visitor);
};

struct ModelConfig {
  std::string name = "segmamba";
  std::int64_t in_channels = 4;
  std::int64_t out_channels = 4;
  bool deep_supervision = false;

  // Where training starts: the weights of this file instead of random ones, and parameters whose
  // names match one of these patterns (* and ?) stay as they are. make_model() reads neither.
  std::string init_from;
  std::vector<std::string> freeze;

  // Of these, the network `name` reads its own. In a file, their keys stand in the section itself.
  SegMambaOptions segmamba;
  SegResNetOptions segresnet;
  UnetrOptions unetr;
  SwinUnetrOptions swin_unetr;  // swin_unetr_v2, too
  UxNetOptions uxnet;
  MedNextOptions mednext;
  NnFormerOptions nnformer;
  TransBtsOptions transbts;
  NnUnetOptions nnunet;
  NnUnetResEncOptions nnunet_resenc;
  UMambaOptions umamba;  // umamba_bot and umamba_enc
  VimOptions vim;
  VMambaOptions vmamba;

  // The common keys and those of the network `name`. Keys of other networks alone may stand in a
  // file as well, so that another name is enough to try another network.
  void visit(ConfigVisitor& visitor);
};

// The names that make_model takes, sorted.
std::vector<std::string> model_names();

// Networks that are made for inputs of one size have it in the config: of the network `name`, the
// list that holds it (null for the others). [] stands for the size of the patches, which whoever
// knows it fills in.
std::vector<std::int64_t>* fixed_input_size(ModelConfig& config);

}  // namespace segmamba::nn
