// A dense block in training, and its gradient.
//
// Axes: G chunks, C channels before the block, D after it, P pixels of a chunk, L layers, K
// channels of a bottleneck.

#include <cstdint>
#include <vector>

#include "arrays.h"

namespace densenet {
namespace {

template <typename T>
ffi::Error train(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon, bool keeps,
                 ffi::AnyBuffer x, ffi::RemainingArgs args, ffi::Result<ffi::AnyBuffer> features,
                 ffi::Result<ffi::AnyBuffer> mean, ffi::Result<ffi::AnyBuffer> var,
                 ffi::Result<ffi::AnyBuffer> inner_mean, ffi::Result<ffi::AnyBuffer> inner_var,
                 ffi::Result<ffi::AnyBuffer> bottlenecks) {
  const auto shape = x.dimensions();
  const int64_t chunks = shape[0];
  Passes<T> block(pool, chunks, planes(shape[2], height, width), epsilon);
  const Maps<T> input = maps(data<T>(x), shape);
  const Maps<T> all = maps(data<T>(features), features->dimensions());
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  Statistics<T> inner{data<T>(inner_mean), data<T>(inner_var)};
  Maps<T> bottleneck = maps(data<T>(bottlenecks), bottlenecks->dimensions());

  block.for_parts([&](int, int64_t first, int64_t end) {
    for (int64_t g = first; g < end; ++g) copy_chunk(input, all, g);
  });
  block.observe(all, input.channels, statistics);
  const auto stages = parameters<T>(args, 3);
  const bool has_bottlenecks = bottleneck.channels > 0;
  int64_t channels = input.channels;
  for (size_t i = 0; i < stages.size(); ++i) {
    Maps<T> source = all;
    Statistics<T> read = statistics;
    if (has_bottlenecks) {
      block.forward(block.stage(stages[i], statistics), all, bottleneck, 0, inner);
      source = bottleneck;
      read = inner;
      inner = inner.after(bottleneck.channels);
      if (keeps) bottleneck.data += chunks * bottleneck.channels * bottleneck.pixels;
      ++i;
    }
    block.forward(block.stage(stages[i], read), source, all, channels, statistics.after(channels));
    channels += stages[i].outputs;
  }
  return ffi::Error::Success();
}

// The gradient for the features becomes, in place, that of the block's input.
template <typename T>
ffi::Error gradient(ffi::ThreadPool pool, int64_t height, int64_t width, double epsilon, bool keeps,
                    ffi::AnyBuffer features, ffi::AnyBuffer mean, ffi::AnyBuffer var,
                    ffi::AnyBuffer inner_mean, ffi::AnyBuffer inner_var, ffi::AnyBuffer bottlenecks,
                    ffi::AnyBuffer, ffi::AnyBuffer of_mean_in, ffi::AnyBuffer of_var_in,
                    ffi::AnyBuffer of_inner_mean_in, ffi::AnyBuffer of_inner_var_in,
                    ffi::RemainingArgs args, ffi::Result<ffi::AnyBuffer> of_x,
                    ffi::Result<ffi::AnyBuffer> of_features, ffi::Result<ffi::AnyBuffer> again,
                    ffi::Result<ffi::AnyBuffer> of_bottleneck, ffi::RemainingRets rets) {
  const auto shape = features.dimensions();
  const int64_t chunks = shape[0];
  Passes<T> block(pool, chunks, planes(shape[2], height, width), epsilon);
  const Maps<T> all = maps(data<T>(features), shape);
  const Maps<T> of_all = maps(data<T>(of_features), shape);
  const Maps<T> of_inner_maps = maps(data<T>(of_bottleneck), of_bottleneck->dimensions());
  const int64_t width_of_inner = of_inner_maps.channels;
  const Statistics<T> statistics{data<T>(mean), data<T>(var)};
  const Statistics<T> inner{data<T>(inner_mean), data<T>(inner_var)};

  std::vector<T> of_mean = copy<T>(of_mean_in), of_var = copy<T>(of_var_in);
  std::vector<T> of_inner_mean = copy<T>(of_inner_mean_in);
  std::vector<T> of_inner_var = copy<T>(of_inner_var_in);
  const Statistics<T> of_statistics{of_mean.data(), of_var.data()};
  const Statistics<T> of_inner{of_inner_mean.data(), of_inner_var.data()};

  const auto stages = parameters<T>(args, 3);
  std::vector<StageGradients<T>> gradients;
  for (size_t i = 0; i < rets.size(); i += 3) {
    auto array = [&](size_t number) {
      return static_cast<T*>((*rets.get<ffi::AnyBuffer>(number))->untyped_data());
    };
    gradients.push_back({array(i), array(i + 1), array(i + 2)});
  }

  const bool has_bottlenecks = width_of_inner > 0;
  const int stages_per_layer = has_bottlenecks ? 2 : 1;
  int64_t channels = all.channels;
  for (int layer = stages.size() / stages_per_layer - 1; layer >= 0; --layer) {
    const int last = (layer + 1) * stages_per_layer - 1;
    channels -= stages[last].outputs;
    const Statistics<T> new_statistics = statistics.after(channels);
    const Statistics<T> of_new = of_statistics.after(channels);
    const ThroughStatistics<T> through(stages[last].outputs, new_statistics, of_new, block.count());
    if (!has_bottlenecks) {
      block.backward(block.stage(stages[last], statistics), all, all, of_all, channels, of_all,
                     true, &through, of_statistics, gradients[last]);
      continue;
    }
    const Statistics<T> read = inner.after(layer * width_of_inner);
    const Statistics<T> of_read = of_inner.after(layer * width_of_inner);
    Maps<T> bottleneck = of_inner_maps;
    bottleneck.data = data<T>(bottlenecks) + layer * chunks * width_of_inner * all.pixels;
    if (!keeps) {
      bottleneck.data = data<T>(again);
      block.forward(block.stage(stages[last - 1], statistics), all, bottleneck, 0, [](int64_t) {});
    }
    block.backward(block.stage(stages[last], read), bottleneck, all, of_all, channels,
                   of_inner_maps, false, &through, of_read, gradients[last]);
    const ThroughStatistics<T> inner_through(width_of_inner, read, of_read, block.count());
    block.backward(block.stage(stages[last - 1], statistics), all, bottleneck, of_inner_maps, 0,
                   of_all, true, &inner_through, of_statistics, gradients[last - 1]);
  }

  const Maps<T> of_input = maps(data<T>(of_x), of_x->dimensions());
  const ThroughStatistics<T> through(channels, statistics, of_statistics, block.count());
  block.for_parts([&](int, int64_t first, int64_t end) {
    for (int64_t g = first; g < end; ++g) {
      for (int64_t c = 0; c < channels; ++c) {
        const T *value = all.at(g, c), *dx = of_all.at(g, c);
        T* to = of_input.at(g, c);
        const T center = through.mean[c], constant = through.constant[c], slope = through.slope[c];
        for (int64_t p = 0; p < all.pixels; ++p) {
          to[p] = dx[p] + (constant + slope * (value[p] - center));
        }
      }
    }
  });
  return ffi::Error::Success();
}

}  // namespace

DENSENET_DEFINE(train, ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .Attr<int64_t>("height")
                           .Attr<int64_t>("width")
                           .Attr<double>("epsilon")
                           .Attr<bool>("keeps")
                           .Arg<ffi::AnyBuffer>()  // x [G, C, P]
                           .RemainingArgs()
                           .Ret<ffi::AnyBuffer>()    // features [G, D, P]
                           .Ret<ffi::AnyBuffer>()    // their mean [D]
                           .Ret<ffi::AnyBuffer>()    // their variance [D]
                           .Ret<ffi::AnyBuffer>()    // mean of the bottlenecks [L, K]
                           .Ret<ffi::AnyBuffer>()    // their variance [L, K]
                           .Ret<ffi::AnyBuffer>());  // bottlenecks [L or 1, G, K, P]

DENSENET_DEFINE(gradient, ffi::Ffi::Bind()
                              .Ctx<ffi::ThreadPool>()
                              .Attr<int64_t>("height")
                              .Attr<int64_t>("width")
                              .Attr<double>("epsilon")
                              .Attr<bool>("keeps")
                              .Arg<ffi::AnyBuffer>()  // what `train` returned
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()  // gradients for all but the bottlenecks
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .Arg<ffi::AnyBuffer>()
                              .RemainingArgs()
                              .Ret<ffi::AnyBuffer>()  // gradient for x
                              .Ret<ffi::AnyBuffer>()  // that of the features, used up
                              .Ret<ffi::AnyBuffer>()  // room for a bottleneck that was not kept
                              .Ret<ffi::AnyBuffer>()  // and for the gradient of one
                              .RemainingRets());

}  // namespace densenet
