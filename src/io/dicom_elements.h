#pragma once
// Elements of a DICOM data set to write, by the keywords of GDCM: put<kw::Modality>(set, "SEG").

#include <gdcmDataSet.h>
#include <gdcmSequenceOfItems.h>
#include <gdcmTagKeywords.h>

#include <array>
#include <bit>
#include <string>
#include <vector>

namespace segmamba::io {

namespace kw = gdcm::Keywords;

inline void put_bytes(gdcm::DataSet& set, const gdcm::Tag& tag, const gdcm::VR& type,
                      std::string bytes) {
  const bool is_text = type != gdcm::VR::UI && (type & gdcm::VR::VRASCII) != 0;
  if (bytes.size() % 2 != 0) bytes += is_text ? ' ' : '\0';
  gdcm::DataElement element(tag);
  element.SetVR(type);
  element.SetByteValue(bytes.data(), static_cast<std::uint32_t>(bytes.size()));
  set.Replace(element);
}

template <class Keyword>
void put(gdcm::DataSet& set, const std::string& text) {
  put_bytes(set, Keyword::GetTag(), Keyword::GetVR(), text);
}

// Binary numbers, in the little-endian order of the file.
template <class Keyword, class Number, std::size_t count>
void put(gdcm::DataSet& set, const std::array<Number, count>& numbers) {
  static_assert(std::endian::native == std::endian::little);
  put_bytes(set, Keyword::GetTag(), Keyword::GetVR(),
            {reinterpret_cast<const char*>(numbers.data()), count * sizeof(Number)});
}
template <class Keyword>
void put(gdcm::DataSet& set, std::uint16_t number) {
  put<Keyword>(set, std::array{number});
}
template <class Keyword>
void put(gdcm::DataSet& set, const gdcm::Tag& value) {
  put<Keyword>(set, std::array{value.GetGroup(), value.GetElement()});
}

template <class Keyword>
void put(gdcm::DataSet& set, const std::vector<gdcm::DataSet>& items) {
  const auto sequence = gdcm::SequenceOfItems::New();
  sequence->SetLengthToUndefined();
  for (const auto& content : items) {
    gdcm::Item item;
    item.SetVLToUndefined();
    item.SetNestedDataSet(content);
    sequence->AddItem(item);
  }
  gdcm::DataElement element(Keyword::GetTag());
  element.SetVR(gdcm::VR::SQ);
  element.SetValue(*sequence);
  element.SetVLToUndefined();
  set.Replace(element);
}
template <class Keyword>
void put(gdcm::DataSet& set, const gdcm::DataSet& only_item) {
  put<Keyword>(set, std::vector<gdcm::DataSet>{only_item});
}

}  // namespace segmamba::io
