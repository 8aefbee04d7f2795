#include "kept.hpp"

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "lasting.hpp"
#include "mlx/allocator.h"
#include "threads.hpp"

namespace lstm_bridge {
namespace {

namespace mx = mlx::core;

constexpr std::size_t kWorth = std::size_t{4} << 20;   // bytes: smaller ones stay MLX's
constexpr std::size_t kMost = std::size_t{128} << 20;  // that wait for the next array

struct Piece {
  mx::allocator::Data data;
  std::size_t bytes;
};
using Shared = std::shared_ptr<Piece>;  // as a deleter is copied

class Store {
 public:
  Shared take(std::size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      for (auto it = pieces_.begin(); it != pieces_.end(); ++it) {
        Shared piece = *it;
        if (piece->bytes < bytes || piece->bytes > bytes + bytes / 4) continue;
        pieces_.erase(it);
        return piece;
      }
    }
    Shared piece(new Piece{mx::allocator::malloc(bytes), bytes});
    use_large_pages(piece->data.buffer().raw_ptr(), bytes);
    return piece;
  }

  void give_back(const Shared& piece) {
    const std::lock_guard lock(mutex_);
    pieces_.push_back(piece);
    std::size_t all = 0;
    for (const Shared& one : pieces_) all += one->bytes;
    for (; all > kMost; pieces_.erase(pieces_.begin())) all -= pieces_.front()->bytes;
  }

 private:
  std::mutex mutex_;
  std::vector<Shared> pieces_;  // the oldest first
};

Store& store() { return lasting<Store>(); }

mx::allocator::Data memory(std::size_t bytes) {
  if (bytes < kWorth) return mx::allocator::malloc(bytes);
  const Shared piece = store().take(bytes);
  return {piece->data.buffer(), [piece](mx::allocator::Buffer) { store().give_back(piece); }};
}

}  // namespace

float* allocate_kept(mx::array& a, const mx::array* like) {
  auto data = memory(a.nbytes());
  if (like) {
    a.set_data(std::move(data), like->data_size(), like->strides(), like->flags());
  } else {
    a.set_data(std::move(data));
  }
  return a.data<float>();
}

}  // namespace lstm_bridge
