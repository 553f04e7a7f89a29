#include "segmamba/data/data_config.h"

namespace segmamba::data {

void DataConfig::visit(ConfigVisitor& v) {
  DatasetConfig::visit(v);
  v.value({.name = "regions",
           .help = "Instead of one class a voxel the model says, region by region, whether it lies "
                   "in it: [WT, TC, ET], or of any classes [organ=liver+tumour, tumour=tumour]; a "
                   "region lies within those before it or beside them. []: classes"},
          regions);
  v.value({.name = "cache",
           .help = "Folder that segmamba-data prepare made of the cases with this config; empty: "
                   "cases are prepared in memory"},
          cache);
  v.value({.name = "split",
           .help = "YAML file of case names (segmamba-data split); empty: 70/10/20 by split_seed"},
          split);
  v.value({.name = "fold",
           .help = "Which fold of a split file with folds validates; -1: the file has none",
           .min = -1},
          fold);
  v.value({.name = "split_seed", .help = "Seed of the split where no file is given", .min = 0},
          split_seed);
  v.value({.name = "patch_size",
           .help = "Training patch and inference window [D, H, W], in voxels",
           .min = 1,
           .max = 4096,
           .min_items = 3,
           .max_items = 3},
          patch_size);
  v.value({.name = "memory_gb",
           .help = "Without a cache: GiB of a machine's memory for prepared cases, shared by its "
                   "ranks; cases beyond it are prepared again each time",
           .min = 0,
           .max = 1e9},
          memory_gb);
  v.value({.name = "max_bad_cases",
           .help = "Training cases that may turn out unreadable; each is left out and named",
           .min = 0},
          max_bad_cases);
}

}  // namespace segmamba::data
